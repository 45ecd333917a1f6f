"""A machine on which gymdbd has just been installed: a home, and the folder of an application."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import person, zygote
from tests.support.command import environment, gymdbd, may_fork
from tests.support.pulling import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.person import Person


@dataclass(frozen=True)
class Machine:
    """A home, and in it the folder `app` of an application whose database lies in `instance`."""

    home: Path

    @classmethod
    def make(cls, folder: Path) -> Machine:
        """Make one in this folder, with nothing of gymdbd's in it."""
        machine = cls(folder / "home")
        machine.database.parent.mkdir(parents=True)
        return machine

    @property
    def app(self) -> Path:
        """Return the folder of the application."""
        return self.home / "app"

    @property
    def database(self) -> Path:
        """Return where the application has its database."""
        return self.app / "instance" / "gym_system.db"

    @property
    def archive(self) -> Path:
        """Return the archive that is proposed."""
        return self.app / "data/backups/database"

    @property
    def config(self) -> Path:
        """Return where a user's configuration is; also the tests' root writes it there."""
        return self.home / ".config/gymdbd/config.yaml"

    @property
    def settings(self) -> dict[str, str]:
        """Return what makes this the home of a process."""
        return {
            "HOME": str(self.home),
            "GYMDBD_CONFIG": str(self.config),
            "XDG_STATE_HOME": "",
            "SSH_AUTH_SOCK": "",
        }

    def run(
        self, *arguments: object, traced: Callable[[int], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line here, in the folder of the application, without a terminal.

        On a push, the process is a fork of one that has imported everything, and always if it is
        `traced`, as `Zygote.run` has it.
        """
        if traced or may_fork(*arguments):
            done = zygote.shared().run(
                *arguments, cwd=self.app, environment=self.settings, traced=traced
            )
            words = list(map(str, arguments))
            return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
        given = [f"{name}={value}" for name, value in self.settings.items()]
        return gymdbd(*arguments, cwd=self.app, prefix=["env", *given])

    def run_json(self, *arguments: object) -> tuple[int, dict[str, Any]]:
        """Run it with --json; return the exit code and the one object."""
        done = self.run(*arguments, "--json")
        assert done.stderr == ""
        return done.returncode, dict(json.loads(done.stdout))

    def typing(self, *arguments: object) -> AbstractContextManager[Person]:
        """Let a person type a command line here."""
        return person.typing(*arguments, cwd=self.app, environment=environment(**self.settings))

    def everything(self) -> tuple[dict[str, tuple[str, int]], list[tuple[str, int]]]:
        """Return the digest and time of each file, and each name with its mode."""
        names = sorted((str(path), os.lstat(path).st_mode) for path in self.home.rglob("*"))
        return snapshot_of(self.home), names

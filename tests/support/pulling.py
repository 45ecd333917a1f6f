"""What the tests of a pull share: a peer that is a real SSH server, and a pull job from it."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gymdbd import partials
from gymdbd.config.kinds import PullConfig
from gymdbd.config.parts import Retry, SshConfig
from gymdbd.jobs.context import Context
from gymdbd.jobs.pull import pull
from tests.support.command import EventLog, gymdbd_json
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.jobs.pull.result import PullResult
    from tests.support.sshd import SshServer


@dataclasses.dataclass
class Peer:
    """A database over there, and the replica of it that a job keeps here."""

    server: SshServer
    database: Path
    replica: Path

    def ssh(self, **changes: Any) -> dict[str, Any]:
        """Return the `ssh:` section that reaches the server without any `~/.ssh/config`."""
        return {
            "port": self.server.port,
            "identity_file": str(self.server.user_key),
            "identities_only": True,
            "known_hosts": str(self.server.known_hosts),
            "python": sys.executable,
            **changes,
        }

    def job(self, *, ssh: dict[str, Any] | None = None, **changes: Any) -> PullConfig:
        """Return the pull job, as the configuration would make it."""
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "remote_database": str(self.database),
            "replica": self.replica,
            "retry": Retry(attempts=1),
            "replica_wait": timedelta(seconds=0),
            **changes,
        }
        options = SshConfig(**self.ssh(**(ssh or {})))
        return PullConfig(name="pull", kind="pull", ssh=options, **settings)

    def pull(
        self,
        *,
        ssh: dict[str, Any] | None = None,
        log: EventLog | None = None,
        check: Callable[[], None] = lambda: None,
        **changes: Any,
    ) -> PullResult:
        """Run the job here, in this process."""
        context = Context(log=log or EventLog(), check=check)
        return pull.run(self.job(ssh=ssh, **changes), context)

    def config(self, *, ssh: dict[str, Any] | None = None, **changes: Any) -> Path:
        """Write a configuration with the one job `pull` and return its path."""
        return write_config(self.replica.parent, {"pull": self.entry(ssh=ssh, **changes)})

    def entry(self, *, ssh: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """Return the job as the configuration writes it."""
        return {
            "kind": "pull",
            "every": "1d",
            "host": "127.0.0.1",
            "remote_database": str(self.database),
            "replica": str(self.replica),
            "retry": {"attempts": 1},
            "replica_wait": "1s",
            "ssh": self.ssh(**(ssh or {})),
            **changes,
        }

    def pull_by_command(
        self, *arguments: object, ssh: dict[str, Any] | None = None, **changes: Any
    ) -> tuple[int, dict[str, Any]]:
        """Run `gymdbd pull` with a configuration; return its exit code and its JSON."""
        return gymdbd_json("-c", self.config(ssh=ssh, **changes), "pull", *arguments)

    @property
    def archive(self) -> Path:
        """Return where old replicas go by default."""
        return self.replica.parent / "backups"

    @property
    def partial(self) -> Path:
        """Return where an arriving snapshot lies."""
        return partials.resume(self.replica)


def snapshot_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Return digest and time of every file below a folder, by name; -shm, an index, aside."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


def identity(path: Path) -> tuple[int, int, str]:
    """Return what shows that a file was neither replaced nor written."""
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def crash_after(database: Path, *statements: str) -> None:
    """Let a process run these statements and end without closing: its WAL stays behind."""
    script = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for statement in sys.argv[2:]:\n"
        "    connection.execute(statement).fetchall()\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(database), *statements], check=True)

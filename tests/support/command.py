"""The gymdbd command line, run as a process, and what it logs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support import samples, zygote

if TYPE_CHECKING:
    from pathlib import Path

ROOT = zygote.ROOT
_STARTUP = zygote.startup()
_one_at_a_time = threading.Lock()

GYMDBD = [sys.executable, "-m", "gymdbd"]


# Root may read and write everything; without its capabilities it is a user like any other.
ORDINARY_USER = (
    ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
)


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which gymdbd is found, from a checkout too."""
    return {**os.environ, "PYTHONPATH": zygote.PYTHONPATH, **extra}


# Where Python has zstd: of itself from 3.14 on, otherwise from a package.
ZSTD_MODULES = ["compression.zstd", "backports.zstd"]


def environment_without(folder: Path, *modules: str) -> dict[str, str]:
    """Return an environment in which no Python finds these modules; `folder` takes its settings."""
    settings = f"import sys\nsys.modules.update(dict.fromkeys({modules!r}))\n"
    (folder / "sitecustomize.py").write_text(settings)
    return environment(PYTHONPATH=f"{folder}:{zygote.PYTHONPATH}")


def may_fork(*arguments: object) -> bool:
    """Return whether this command line may run in a fork of a process that has imported all."""
    # These two start threads and processes of their own, which a fork may wait for without end.
    return not (samples.EVERYTHING or {"run", "status"} & set(map(str, arguments)))


def gymdbd(
    *arguments: object, cwd: Path | None = None, prefix: list[str] | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end.

    On a push, the process is a fork of one that has imported everything, if it begins as that did.
    """
    if may_fork(*arguments) and not (prefix or extra) and zygote.startup() == _STARTUP:
        words = [*GYMDBD, *map(str, arguments)]
        with _one_at_a_time:
            done = zygote.shared().run(*arguments, cwd=cwd)
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
    return subprocess.run(
        [*(prefix or []), *GYMDBD, *map(str, arguments)],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def gymdbd_json(
    *arguments: object, cwd: Path | None = None, prefix: list[str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Run the command line with --json; return its exit code and the one object it printed."""
    done = gymdbd(*arguments, "--json", cwd=cwd, prefix=prefix)
    try:
        return done.returncode, dict(json.loads(done.stdout))
    except ValueError:
        raise AssertionError(f"no JSON: {done.stdout!r} {done.stderr!r}") from None


@dataclass
class EventLog:
    """A log that remembers its events: (level, event, facts)."""

    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("debug", event, facts))

    def info(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("info", event, facts))

    def warning(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("warning", event, facts))

    def error(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("error", event, facts))

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the facts of every event called `event`."""
        return [facts for _, name, facts in self.events if name == event]


def require(tool: str) -> str:
    """Return the path of a program that the tests need; fail saying which package has it."""
    found = shutil.which(tool)
    assert found is not None, f"apt-get install {tool}"
    return found

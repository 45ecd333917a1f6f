"""Faults at a chosen system call of a run: strace kills it there, or lets the call fail."""

from __future__ import annotations

import collections
import contextlib
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.command import require

if TYPE_CHECKING:
    from collections.abc import Iterator

# Calls that change what lies on the disk, or on which the next change depends. What only looks at
# names (stat, access, readlink) leaves the same state behind as the call before it.
CALLS = (
    *("openat", "close", "read", "pread64", "write", "pwrite64", "writev", "pwritev"),
    *("ftruncate", "truncate", "fallocate", "fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat", "symlink"),
    *("mkdir", "rmdir", "chmod", "fchmod", "fchmodat", "fchown", "chown", "utimensat"),
    *("copy_file_range", "sendfile", "ioctl", "flock", "fcntl", "getdents64", "statfs"),
)
_NO_LOG = Path("/dev/null")
_LINE = re.compile(r"(\d+) +(\w+)\(")


@dataclass
class Tracer:
    """strace, attached to a run before its first step; given to `Zygote.run` as `traced`."""

    options: list[str]
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, pid: int) -> None:
        """Attach, and return when that is done."""
        process = subprocess.Popen(
            [require("strace"), "-f", "-p", str(pid), *self.options],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._processes.append(process)
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "attached" in said, said

    def wait(self) -> None:
        """Wait until strace has seen the end of the run."""
        for process in self._processes:
            process.communicate(timeout=30)


@contextlib.contextmanager
def tracing(*options: str) -> Iterator[Tracer]:
    """Give a tracer with these options of strace, and see it end."""
    tracer = Tracer(list(options))
    try:
        yield tracer
    finally:
        tracer.wait()


def counting(log: Path) -> contextlib.AbstractContextManager[Tracer]:
    """Give a tracer that only writes down the calls, with the paths of their descriptors."""
    return tracing("-y", "-e", f"trace={','.join(CALLS)}", "-o", str(log))


@dataclass(frozen=True)
class Point:
    """The `number`th call of that name; `line` is how strace showed it when it was counted."""

    call: str
    number: int
    line: str = field(compare=False)

    def __str__(self) -> str:
        """Write it as `fsync #3` with the call."""
        return f"{self.call} #{self.number}: {self.line}"


def injecting(
    point: Point, fault: str, log: Path = _NO_LOG
) -> contextlib.AbstractContextManager[Tracer]:
    """Give a tracer that injects `fault` at a point, and writes into `log` what happened.

    Each thread has a count of its own: it is the first thread that gets so far. The run of a kill
    ends without that call having been made.
    """
    inject = f"inject={point.call}:{fault}:when={point.number}"
    return tracing("-y", "-e", f"trace={point.call}", "-e", inject, "-o", str(log))


def refused(log: Path) -> str:
    """Return the lines of the calls that were refused: each thread has its own k-th."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if line.endswith("(INJECTED)"))


def points(log: Path, place: Path) -> list[Point]:
    """Return every point below `place` that a counted run went through, in order."""
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    found: dict[Point, None] = {}
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match:
            seen[match[1], match[2]] += 1
            if str(place) in line:
                shown = line.replace(f"{place}/", "")[match.start(2) : match.start(2) + 200]
                found[Point(match[2], seen[match[1], match[2]], shown)] = None
    return list(found)

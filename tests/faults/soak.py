"""Thousands of backups and pulls under a writer at full rate: nothing may grow, every one is good.

`python -m tests.faults.soak --backups 10000 --pulls 10000` takes hours, and is not part of CI. The
runs are made in one process, as nothing of gymdbd's own makes them: what leaks is seen after ten
thousand of them. Numbers are printed now and then, and a verdict in the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd.config.parts import Keep
from gymdbd.jobs.backup import backup
from tests.support import ledger
from tests.support.jobs import backup_job, context
from tests.support.pulling import Peer
from tests.support.sshd import SshServer

if TYPE_CHECKING:
    from collections.abc import Callable

_REPORTS = 20
# What an interpreter's allocator may take more after its first runs.
_MOST_GROWTH_KIB = 8 * 1024
# paramiko does not wait for its thread, which notices a little later that the connection is closed.
_THREAD_END_S = 5.0


@dataclasses.dataclass(frozen=True)
class Use:
    """What this process and its folders hold."""

    rss_kib: int
    descriptors: int
    threads: int
    files: int

    @classmethod
    def now(cls, folder: Path) -> Use:
        """Measure, once the threads that are ending have ended."""
        gc.collect()
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(_THREAD_END_S)
        status = Path("/proc/self/status").read_text()
        rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return cls(
            rss_kib=int(rss.split()[1]),
            descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - only their number
            threads=threading.active_count(),
            files=sum(1 for _ in folder.rglob("*")),
        )


def repeat(
    name: str, times: int, hours: float, folder: Path, once: Callable[[], list[str]]
) -> list[str]:
    """Do one thing again and again, not longer than that; return what went wrong, growth included.

    Nothing may grow after the first twentieth.
    """
    problems: list[str] = []
    first = Use(0, 0, 0, 0)
    begun = time.monotonic()
    for number in range(1, times + 1):
        problems += [f"{name} {number}: {one}" for one in once()]
        if number % max(1, times // _REPORTS) == 0 or number == times:
            use = Use.now(folder)
            rate = number / (time.monotonic() - begun)
            sys.stdout.write(f"{name} {number}: {use}, {rate:.1f} a second, {len(problems)} bad\n")
            sys.stdout.flush()
            first = first if first.rss_kib else use
        if time.monotonic() - begun > hours * 3600:
            sys.stdout.write(f"{name}: time is up after {number} of {times}\n")
            break
    last = Use.now(folder)
    if last.rss_kib > first.rss_kib + _MOST_GROWTH_KIB:
        problems.append(f"{name}: grew from {first.rss_kib} to {last.rss_kib} KiB")
    for what in ("descriptors", "threads", "files"):
        if getattr(last, what) > getattr(first, what):
            problems.append(f"{name}: {what} grew from {first} to {last}")
    return problems


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backups", type=int, default=10_000)
    parser.add_argument("--pulls", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=24.0, help="of either, at most")
    arguments = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as place, SshServer(Path(place) / "sshd") as server:
        folder = Path(place)
        # Temporary files are counted with the others.
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder / "temporary")
        Path(tempfile.tempdir).mkdir()
        database = ledger.create(folder / "ledger.db")
        archive, here = folder / "archive", folder / "here"
        here.mkdir()
        job = backup_job(database, archive, keep=Keep(count=5), gates=None)
        peer = Peer(server, database, here / "replica.db")

        def one_backup() -> list[str]:
            made = Path(str(backup.run(job, context()).path))
            return list(ledger.check_copy(archive / made).problems)

        def one_pull() -> list[str]:
            changes: dict[str, Any] = {"keep": Keep(count=3)}
            peer.pull(**changes)
            return list(ledger.check_copy(peer.replica).problems)

        with ledger.writing(database):
            if arguments.backups:
                problems += repeat("backup", arguments.backups, arguments.hours, folder, one_backup)
            if arguments.pulls:
                problems += repeat("pull", arguments.pulls, arguments.hours, folder, one_pull)
    sys.stdout.write("\n".join(problems) + "\n" if problems else "all good, nothing grew\n")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

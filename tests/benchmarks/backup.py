"""How long a backup takes beside `cp` and `sqlite3 .backup`, and what the application feels of it.

    python -m tests.benchmarks.backup [--sizes 3,500] [--runs 11] [--rate 100] [--folder DIR]

Each round runs every contestant once on the same database, in an order that rotates; a ratio is
the median of the ratios within the rounds. Before each run the disk is given time to settle
(`sync`), and the source is in the page cache. Exits with 1 where the bound is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import log
from gymdbd.config.config import LogConfig
from gymdbd.config.kinds import BackupConfig
from gymdbd.jobs.backup import backup
from gymdbd.jobs.context import Context
from tests.benchmarks import application, machine

if TYPE_CHECKING:
    from collections.abc import Callable

# Without verification, against `sqlite3 .backup`, for a database that is large enough to time.
_BOUND = 1.3
_BOUND_FROM_MB = 100
_IDLE_S = 10.0
_LEAST_COMMITS = 500

CP = "`cp`"
CP_SYNC = "`cp`, then `sync`"
SQLITE = "`sqlite3 .backup`"
UNVERIFIED = "gymdbd without verification"
VERIFICATION = "gymdbd's verification"
WHOLE = "gymdbd, whole backup"
COMMAND = "`gymdbd backup`, the command"


@dataclass
class Bench:
    """One database, and a folder to back it up into."""

    folder: Path
    database: Path

    def cp(self) -> dict[str, float]:
        """Copy the file: neither safe nor on the disk when it ends."""
        return {CP: self._run("cp", self.database, self.folder / "cp.db")}

    def cp_sync(self) -> dict[str, float]:
        """Copy the file and wait until it is on the disk."""
        target = self.folder / "cp.db"
        return {
            CP_SYNC: self._run("sh", "-c", 'cp "$1" "$2"; sync "$2"', "-", self.database, target)
        }

    def sqlite(self) -> dict[str, float]:
        """Let SQLite's own shell do it: consistent and on the disk, but not looked at again."""
        target = self.folder / "sqlite.db"
        return {SQLITE: self._run("sqlite3", self.database, f".backup '{target}'")}

    def job(self) -> dict[str, float]:
        """Run the job in this process, as a child of the daemon does."""
        archive = self.folder / "job"
        archive.mkdir(exist_ok=True)
        settings = BackupConfig(name="b", kind="backup", database=self.database, archive=archive)
        os.sync()
        started = time.monotonic()
        result = backup.run(settings, Context(log=log.logger()))
        whole = time.monotonic() - started
        _empty(archive)
        verify = result.timings["verify"]
        return {UNVERIFIED: whole - verify, VERIFICATION: verify, WHOLE: whole}

    def command(self) -> dict[str, float]:
        """Run the command, with Python's start."""
        start, end = self.time_command()
        return {COMMAND: end - start}

    def time_command(self) -> tuple[float, float]:
        """Run the command; return from when to when, in monotonic seconds."""
        gymdbd = (sys.executable, "-m", "gymdbd")
        flags = ("--database", self.database, "--archive", self.folder / "command")
        return self._time(*gymdbd, "backup", *flags)

    def _run(self, *words: str | Path) -> float:
        start, end = self._time(*words)
        return end - start

    def _time(self, *words: str | Path) -> tuple[float, float]:
        os.sync()
        started = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        ended = time.monotonic()
        for each in (self.folder / "cp.db", self.folder / "sqlite.db"):
            each.unlink(missing_ok=True)
        _empty(self.folder / "command")
        return started, ended


def time_contestants(bench: Bench, runs: int) -> list[dict[str, float]]:
    """Return the seconds of every contestant in every round."""
    contestants: list[Callable[[], dict[str, float]]] = [
        bench.cp,
        bench.cp_sync,
        bench.sqlite,
        bench.job,
        bench.command,
    ]
    rounds = []
    with application.running(bench.database, 0):
        for run in contestants:
            run()
        for number in range(runs):
            turn = number % len(contestants)
            times: dict[str, float] = {}
            for run in contestants[turn:] + contestants[:turn]:
                times.update(run())
            rounds.append(times)
    return rounds


def feel(bench: Bench, rate: float) -> dict[str, list[float]]:
    """Return the commit latencies of an application, idle and during backups, in seconds."""
    windows: list[tuple[float, float]] = []
    with application.running(bench.database, rate) as commits:
        began = time.monotonic()
        time.sleep(_IDLE_S)
        idle = (began, time.monotonic())
        while sum(end - start for start, end in windows) * rate < _LEAST_COMMITS:
            windows.append(bench.time_command())
    found: dict[str, list[float]] = {"idle": [], "during backups": []}
    for wanted, took_s in zip(commits.wanted, commits.took_s, strict=True):
        if idle[0] <= wanted < idle[1]:
            found["idle"].append(took_s)
        elif any(start <= wanted < end for start, end in windows):
            found["during backups"].append(took_s)
    return found


def main() -> int:
    """Measure, print the tables, and say whether the bound holds."""
    arguments = _arguments()
    log.configure(LogConfig(), by_hand=True)
    held = True
    latencies: list[str] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="gymdbd-bench-") as name:
        folder = Path(name)
        _say(f"{machine.describe(folder)}.\n")
        for size_mb in arguments.sizes:
            bench = Bench(folder, folder / f"bench-{size_mb}.db")
            application.build(bench.database, size_mb)
            rounds = time_contestants(bench, arguments.runs)
            _tell_times(bench, rounds)
            held &= size_mb < _BOUND_FROM_MB or _ratio(rounds, UNVERIFIED, SQLITE) <= _BOUND
            found = feel(bench, arguments.rate)
            latencies += [_latency_row(bench, when, values) for when, values in found.items()]
            bench.database.unlink()
    _say(f"An application that commits {arguments.rate:g} times a second, latency in ms:\n")
    _say("| database | when | commits | p50 | p99 | max |\n|---|---|--:|--:|--:|--:|")
    _say("\n".join(latencies))
    _say(f"\nBound of {_BOUND} x {SQLITE} without verification: {'held' if held else 'MISSED'}.")
    return 0 if held else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--sizes", type=lambda text: [int(one) for one in text.split(",")], default=[3, 500]
    )
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--folder", type=Path, default=Path(), help="where to measure")
    return parser.parse_args()


def _tell_times(bench: Bench, rounds: list[dict[str, float]]) -> None:
    size_mb = bench.database.stat().st_size / 1e6
    _say(f"| {size_mb:.0f} MB, {len(rounds)} rounds | median ms | x {CP} | x {SQLITE} |")
    _say("|---|--:|--:|--:|")
    for name in (CP, CP_SYNC, SQLITE, UNVERIFIED, VERIFICATION, WHOLE, COMMAND):
        milliseconds = statistics.median(times[name] for times in rounds) * 1e3
        ratios = f"{_ratio(rounds, name, CP):.2f} | {_ratio(rounds, name, SQLITE):.2f}"
        _say(f"| {name} | {milliseconds:.0f} | {ratios} |")
    _say("")


def _ratio(rounds: list[dict[str, float]], name: str, base: str) -> float:
    return statistics.median(times[name] / times[base] for times in rounds)


def _latency_row(bench: Bench, when: str, values: list[float]) -> str:
    ordered = sorted(value * 1e3 for value in values)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.50, 0.99))
    size_mb = bench.database.stat().st_size / 1e6
    figures = f"{p50:.1f} | {p99:.1f} | {ordered[-1]:.1f}"
    return f"| {size_mb:.0f} MB | {when} | {len(ordered)} | {figures} |"


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for each in folder.iterdir():
            each.unlink()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

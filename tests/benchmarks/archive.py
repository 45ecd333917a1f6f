"""What the commands cost if an archive holds thousands of backups, beside one that holds ten.

    python -m tests.benchmarks.archive [--backups 6000] [--runs 11] [--folder DIR]

A cost is the processor time of the command as a process, Python's start included. Each round runs
a command on both archives, one right after the other, in an order that alternates; a ratio is the
median of the ratios within the rounds. The backups of an archive are one a hour, links to the same
file. Exits with 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gymdbd.archive import manifest as manifests
from tests.benchmarks import application, machine

_FEW = 10
_SIZE_MB = 3
# At most so many times the cost with `_FEW` backups; None is shown only.
_BOUNDS: dict[str, float | None] = {
    "backup": 1.3,
    "restore latest": 1.3,
    "status": 1.3,
    "prune": 1.3,
    "prune, thinning": None,
    "list": 4.0,
    "check": None,
    "verify latest": None,
}
_KEEP_ALL = "{days: 36500}"
_THIN = "{count: 10, hourly: 100000, daily: 3650, weekly: 520, monthly: 120, yearly: 10}"
_CONFIG = """\
status_file: {folder}/status.json
jobs:
  gym:
    kind: backup
    database: {database}
    archive: {archive}
    schedule: "0 3 * * *"
    keep: {keep}
"""


@dataclass
class Bench:
    """An archive with backups of one database, and the configurations that name it."""

    folder: Path
    backups: int

    @property
    def archive(self) -> Path:
        """Return the folder with the backups."""
        return self.folder / "archive"

    def fill(self) -> None:
        """Make the database, one backup of it, and links to that as if there had been many."""
        self.archive.mkdir(0o700, parents=True)
        database = self.folder / "gym.db"
        application.build(database, _SIZE_MB)
        for name, keep in (("all", _KEEP_ALL), ("thin", _THIN)):
            text = _CONFIG.format(
                folder=self.folder, database=database, archive=self.archive, keep=keep
            )
            self._config(name).write_text(text)
        self.seconds("backup")
        (made,) = self.archive.glob("*.db")
        manifest = manifests.read(made)
        assert manifest is not None
        for hour in range(1, self.backups):
            created = manifest.created.astimezone() - timedelta(hours=hour)
            path = self.archive / f"gym_backup_{created:%Y%m%d_%H%M%S}.db"
            path.hardlink_to(made)
            then = dataclasses.replace(manifest, created_at=created.isoformat(timespec="seconds"))
            manifests.write(then, path)

    def seconds(self, name: str) -> float:
        """Return the processor time of a command, and take back what it made."""
        before = set(self.archive.iterdir())
        words = {
            "restore latest": ["restore", "latest", "--to", str(self.folder / "restored.db")],
            "prune, thinning": ["prune", "--dry-run"],
            "verify latest": ["verify", "latest", "--database", str(self.folder / "gym.db")],
        }
        config = self._config("thin" if "thinning" in name else "all")
        command = [sys.executable, "-m", "gymdbd", "-c", str(config), *words.get(name, [name])]
        # What is installed has its bytecode; compiling at each start would hide the difference.
        usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen(
            command,
            env=usual,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: {process.returncode}\n{said.decode()}")
        (self.folder / "restored.db").unlink(missing_ok=True)
        # The first backup stays, and so does the index, which is no part of the answer.
        for made in set(self.archive.iterdir()) - before if before else ():
            if made.name[0] != ".":
                made.unlink()
        return usage.ru_utime + usage.ru_stime

    def _config(self, name: str) -> Path:
        return self.folder / f"{name}.yaml"


def time_commands(few: Bench, many: Bench, runs: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of each command with few backups and with many, of every round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _BOUNDS}
    for number in range(-1, runs):
        for name, rounds in found.items():
            if number % 2:
                with_many = many.seconds(name)
                pair = few.seconds(name), with_many
            else:
                pair = few.seconds(name), many.seconds(name)
            # The first round reads what all later ones find in memory.
            if number >= 0:
                rounds.append(pair)
    return found


def main() -> int:
    """Measure, print the table, and say whether the bounds hold."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="gymdbd-bench-") as name:
        folder = Path(name).resolve()
        _say(f"{machine.describe(folder)}.\n")
        few, many = Bench(folder / "few", _FEW), Bench(folder / "many", arguments.backups)
        for bench in (few, many):
            bench.fill()
        found = time_commands(few, many, arguments.runs)
    _say(f"| CPU ms, {arguments.runs} rounds | {_FEW} backups | {many.backups:,} | x | at most | |")
    _say("|---|--:|--:|--:|--:|---|")
    held = [_tell(name, rounds) for name, rounds in found.items()]
    return 0 if all(held) else 1


def _tell(name: str, rounds: list[tuple[float, float]]) -> bool:
    """Print the row of a command, and return whether its bound holds."""
    few, many = (statistics.median(pair[at] for pair in rounds) * 1e3 for at in (0, 1))
    ratio, bound = statistics.median(more / less for less, more in rounds), _BOUNDS[name]
    held = bound is None or ratio <= bound
    verdict = "" if bound is None else "held" if held else "MISSED"
    _say(f"| `{name}` | {few:.0f} | {many:.0f} | {ratio:.2f} | {bound or ''} | {verdict} |")
    return held


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backups", type=int, default=6000)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--folder", type=Path, default=Path(), help="where to measure")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""How long a pull takes and what it costs the link, beside `scp` and `rsync`.

    python -m tests.benchmarks.pull [--sizes 3,500] [--runs 5] [--large] [--folder DIR]

Contestants and their sshd run on this machine. Before each round the database is changed, then
every contestant brings its own copy up to date, in an order that rotates; a ratio is the median
of the ratios within the rounds. `--large` adds 5000 MB, unchanged and 100 rows only. As root it
measures once more with the replica on a file system that shares blocks (XFS on a loop device).

litestream is left out: it pulls nothing, but runs beside the application all day, keeps the
checkpoints to itself and writes a table of its own into the database.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import log
from gymdbd.config import LogConfig
from tests.benchmarks import application, machine, transfers
from tests.benchmarks.transfers import Contestant, Gymdbd, Program, Sqlite3Rsync, Taken
from tests.sshd import SshServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = "gymdbd"
SAVING = "gymdbd, old one saved"
SHARING = "gymdbd, replica on XFS"
SCP = "`scp`"
RSYNC = "`rsync`"

_LARGE_MB = 5000
_FROM_MB_ON = 100
_ROWS = 100
_STEPS = ("connect", "clone", "fetch", "rows", "verify", "save", "publish")
_REFERENCE = (
    "`sqlite3_rsync` is not installed. From another run, on a machine of this kind, at 500 MB: "
    "unchanged 1.2 s and 6.7 KB, 100 rows 1.6 s and 545 KB."
)

Round = dict[str, Taken]


@dataclass(frozen=True)
class Scenario:
    """What happens to the database before every contestant brings its copy up to date."""

    name: str
    change: Callable[[sqlite3.Connection], None]
    from_nothing: bool = False


def leave(connection: sqlite3.Connection) -> None:
    """Change nothing."""
    del connection


def update_rows(connection: sqlite3.Connection) -> None:
    """Update a hundred rows anywhere, in one transaction."""
    last = connection.execute("SELECT max(id) FROM sensor_events").fetchone()[0]
    _update(connection, random.sample(range(1, last + 1), _ROWS))


def update_and_checkpoint(connection: sqlite3.Connection) -> None:
    """Update a hundred rows and write the WAL into the main file."""
    update_rows(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def update_tenth(connection: sqlite3.Connection) -> None:
    """Update every row of a tenth of the table, in one transaction."""
    last = connection.execute("SELECT max(id) FROM sensor_events").fetchone()[0]
    first = random.randrange(1, last - last // 10)
    _update(connection, range(first, first + last // 10))


def _update(connection: sqlite3.Connection, rows: list[int] | range) -> None:
    connection.execute("BEGIN")
    connection.executemany(
        "UPDATE sensor_events SET payload = ? WHERE id = ?",
        ((random.randbytes(60).hex(), number) for number in rows),
    )
    connection.execute("COMMIT")


SCENARIOS = (
    Scenario("first", leave, from_nothing=True),
    Scenario("unchanged", leave),
    Scenario("100 rows", update_rows),
    Scenario("100 rows, checkpointed", update_and_checkpoint),
    Scenario("10 % changed", update_tenth),
)
_LARGE_ONES = ("unchanged", "100 rows")


def measure(
    contestants: list[Contestant], scenario: Scenario, database: Path, runs: int
) -> list[Round]:
    """Return what every contestant took in every round."""
    rounds = []
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        for number in range(runs):
            scenario.change(connection)
            turn = number % len(contestants)
            times: Round = {}
            for one in contestants[turn:] + contestants[:turn]:
                if scenario.from_nothing:
                    one.forget()
                os.sync()
                times[one.name] = one.run()
            rounds.append(times)
    return rounds


def settle(contestants: list[Contestant], database: Path) -> None:
    """Begin a new WAL and let every contestant see it, so that no scenario feels the last one."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        update_rows(connection)
        for one in contestants:
            one.run()


def _seed(contestants: list[Contestant], database: Path) -> None:
    """Spare everybody of ours a first pull that nobody looks at."""
    for one in contestants:
        if isinstance(one, Gymdbd):
            one.seed(database)


def gather(server: SshServer, database: Path, folder: Path, *, large: bool) -> list[Contestant]:
    """Return everybody who takes part; at a large size only who copies changes."""
    config, wrapper = transfers.client_files(server, folder)
    found: list[Contestant] = [
        Gymdbd(OURS, server, database, folder / "ours"),
    ]
    if not large:
        found.append(Gymdbd(SAVING, server, database, folder / "saving", saving=True))
        words = ["scp", "-q", "-F", str(config)]
        found.append(Program(SCP, words, database, folder / "scp"))
    if shutil.which("rsync"):
        words = ["rsync", "--times", "--stats", "-e", f"ssh -F {config}"]
        found.append(Program(RSYNC, words, database, folder / "rsync"))
    if shutil.which("sqlite3_rsync"):
        found.append(Sqlite3Rsync(wrapper, database, folder / "sqlite3_rsync"))
    return found


@contextlib.contextmanager
def sharing_folder(folder: Path, size_mb: int) -> Iterator[Path | None]:
    """Mount a file system that shares blocks; None where that cannot be had."""
    image, place = folder / "xfs.img", folder / "xfs"
    if os.geteuid() != 0 or not shutil.which("mkfs.xfs", path="/usr/sbin:/sbin"):
        yield None
        return
    place.mkdir()
    with image.open("wb") as file:
        file.truncate((3 * size_mb + 500) * 1_000_000)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        image.unlink()


def measure_size(size_mb: int, runs: int, folder: Path, server: SshServer) -> None:
    """Measure one size of database and print its tables."""
    database = folder / "bench.db"
    application.build(database, size_mb)
    large = size_mb >= _LARGE_MB
    scenarios = [one for one in SCENARIOS if not large or one.name in _LARGE_ONES]
    contestants = gather(server, database, folder, large=large)
    # While an application has it open, no last close writes the WAL into the main file.
    with application.running(database, 0), sharing_folder(folder, size_mb) as place:
        if place is not None:
            contestants.append(Gymdbd(SHARING, server, database, place / "ours"))
        if large:
            _seed(contestants, database)
        results: dict[str, list[Round]] = {}
        for scenario in scenarios:
            if not scenario.from_nothing:
                settle(contestants, database)
            results[scenario.name] = measure(contestants, scenario, database, runs)
        _tell_times(size_mb, results)
        _tell_steps(size_mb, results)
        peaks = _memory(server, database, folder, large=large)
        _say(f"Peak memory of the serving side at {size_mb} MB:{peaks}")
    _say("")


def _memory(server: SshServer, database: Path, folder: Path, *, large: bool) -> str:
    """Say what the serving side needs for each way of pulling."""
    ours = Gymdbd("memory", server, database, folder / "memory")
    found = {}
    if large:
        ours.seed(database)
    else:
        found["first"] = ours.peak_memory()
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        update_and_checkpoint(connection)
        found["by digests"] = ours.peak_memory()
        update_rows(connection)
        found["by the WAL"] = ours.peak_memory()
    return ",".join(f" {name} {peak / 2**20:.1f} MiB" for name, peak in found.items()) + "."


def _tell_times(size_mb: int, results: dict[str, list[Round]]) -> None:
    _say(f"| {size_mb} MB | | s | apart | x {SCP} | x {RSYNC} | bytes | of database |")
    _say("|---|---|--:|--:|--:|--:|--:|--:|")
    for scenario, rounds in results.items():
        for name, some in rounds[0].items():
            who = f"{name} ({some.strategy})" if some.strategy else name
            seconds = _median(rounds, name, lambda taken: taken.seconds)
            own = f"{_median(rounds, name, lambda taken: taken.own_s):.2f}" if some.steps else ""
            wire = _median(rounds, name, lambda taken: taken.wire_bytes)
            ratios = f"{_ratio(rounds, name, SCP)} | {_ratio(rounds, name, RSYNC)}"
            share = f"{wire:,.0f} | {wire / size_mb / 1e4:.2f} %"
            _say(f"| {scenario} | {who} | {seconds:.2f} | {own} | {ratios} | {share} |")
    _say("")


def _tell_steps(size_mb: int, results: dict[str, list[Round]]) -> None:
    """Print where gymdbd's time goes; `first` and others lack steps that they do not take."""
    _say(f"| {size_mb} MB, ms | {' | '.join(_STEPS)} |\n|---|{'--:|' * len(_STEPS)}")
    for scenario, rounds in results.items():
        for name in (name for name, taken in rounds[0].items() if taken.steps):
            figures = [
                _median(rounds, name, lambda taken, step=step: taken.steps.get(step, 0.0) * 1e3)  # type: ignore[misc]
                for step in _STEPS
            ]
            cells = " | ".join(f"{figure:.0f}" for figure in figures)
            _say(f"| {scenario}, {name} | {cells} |")
    _say("")


def _median(rounds: list[Round], name: str, figure: Callable[[Taken], float]) -> float:
    return statistics.median(figure(times[name]) for times in rounds)


def _ratio(rounds: list[Round], name: str, base: str) -> str:
    if base not in rounds[0]:
        return ""
    ratio = statistics.median(times[name].seconds / times[base].seconds for times in rounds)
    return f"{ratio:.2f}"


def main() -> int:
    """Measure and print the tables."""
    arguments = _arguments()
    log.configure(LogConfig(), by_hand=True)
    sizes = [*arguments.sizes, *([_LARGE_MB] if arguments.large else [])]
    _say(f"{machine.describe(arguments.folder)}; everything over sshd on loopback.\n")
    for size_mb in sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="gymdbd-bench-") as name:
            folder = Path(name).resolve()
            environment = transfers.quiet_home(folder)
            with SshServer(folder / "sshd", environment=environment) as server:
                measure_size(size_mb, arguments.runs, folder, server)
    if not shutil.which("sqlite3_rsync"):
        _say(_REFERENCE)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--sizes", type=lambda text: [int(one) for one in text.split(",") if one], default=[3, 500]
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also 5000 MB")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to measure")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

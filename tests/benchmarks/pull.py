"""How long a pull takes and what it costs the link, beside `scp`, `rsync` and `sqlite3_rsync`.

    python -m tests.benchmarks.pull [--sizes 3,500] [--runs 5] [--large] [--link MBIT]
        [--folder DIR]

Contestants and their sshd run on this machine. Before each round the database is changed, then
every contestant brings its own copy up to date, in an order that rotates; a ratio is the median
of the ratios within the rounds. `--large` adds 5000 MB, unchanged and 100 rows only. As root it
measures once more with the replica on a file system that shares blocks (XFS on a loop device),
and with `--link` over a loopback of its own with so many megabits a second, both ways together.
Bytes are those on the wire, SSH's own included; for `scp` they are those of the files. A first pull
of ours checks every page and index, so that `sqlite3_rsync` takes part in it a second time, with
SQLite's own check after it.

litestream, where it is installed (the extra `benchmark`), pulls nothing: it sends what changed to
a folder, here through the same sshd, and restores all of it from there. It writes into the database
and wants to be the only one who checkpoints, so that it has one of its own that changes likewise,
and sits out a checkpoint by the application.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import log
from gymdbd.config.config import LogConfig
from tests.benchmarks import application, machine, tables, transfers
from tests.benchmarks.tables import RSYNC, SCP
from tests.benchmarks.transfers import (
    CheckedSqlite3Rsync,
    Command,
    Contestant,
    Gymdbd,
    Litestream,
    Program,
    Sqlite3Rsync,
    Taken,
)
from tests.support.sshd import SshServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = "gymdbd"
SAVING = "gymdbd, old one saved"
SHARING = "gymdbd, replica on XFS"
COMMAND = "`gymdbd pull`, the command"

_LARGE_MB = 5000
_BOUNDS_MB = 500
_LINK = "GYMDBD_BENCHMARK_LINK"
_ROWS = 100
_REFERENCE = (
    "`sqlite3_rsync` is not installed. From another run, on a machine of this kind, at 500 MB: "
    "unchanged 1.2 s, 100 rows 1.6 s, first 2.1 s, and inside SSH 6.7 KB, 535 KB and 501 MB."
)

Round = dict[str, Taken]


@dataclass(frozen=True)
class Scenario:
    """What happens to the database before every contestant brings its copy up to date."""

    name: str
    change: Callable[[sqlite3.Connection], None]
    from_nothing: bool = False
    checkpoints: bool = False

    def takes(self, one: Contestant) -> bool:
        """Say whether this is for `one`: not a checkpoint for who wants them all to itself.

        Nor a check of everything but for who makes one, too: at the beginning.
        """
        if isinstance(one, Litestream):
            return not self.checkpoints
        return self.from_nothing or not isinstance(one, CheckedSqlite3Rsync)


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
    Scenario("100 rows, checkpointed", update_and_checkpoint, checkpoints=True),
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
            for changing in (connection, *_own_databases(contestants)):
                scenario.change(changing)
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
        for changing in (connection, *_own_databases(contestants)):
            update_rows(changing)
        for one in contestants:
            one.run()


def _own_databases(contestants: list[Contestant]) -> list[sqlite3.Connection]:
    return [one.connection for one in contestants if isinstance(one, Litestream)]


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
        found.append(Command(COMMAND, server, database, folder / "command"))
        words = ["scp", "-q", "-F", str(config)]
        found.append(Program(SCP, words, database, folder / "scp"))
        if shutil.which("litestream"):
            found.append(Litestream(server, database, folder / "litestream"))
    if shutil.which("rsync"):
        words = ["rsync", "--times", "--stats", "-e", f"ssh -F {config}"]
        found.append(Program(RSYNC, words, database, folder / "rsync"))
    if shutil.which("sqlite3_rsync"):
        found.append(Sqlite3Rsync(wrapper, database, folder / "sqlite3_rsync"))
        if not large:
            found.append(CheckedSqlite3Rsync(wrapper, database, folder / "checked"))
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
    try:
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        yield place
    finally:
        # Lazily: whoever was interrupted in it may still be about to leave.
        if place.is_mount():
            subprocess.run(["umount", "--lazy", place], check=True)
        image.unlink()


def measure_size(size_mb: int, runs: int, folder: Path, server: SshServer) -> float:
    """Measure one size of database, print its tables, return the seconds of an unchanged one."""
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
            taking_part = [one for one in contestants if scenario.takes(one)]
            if not scenario.from_nothing:
                settle(taking_part, database)
            results[scenario.name] = measure(taking_part, scenario, database, runs)
        _say(tables.times(size_mb, results))
        _say(tables.steps(size_mb, results))
        if size_mb == _BOUNDS_MB and shutil.which("sqlite3_rsync"):
            _say(tables.bounds(results, [OURS, SHARING, SAVING, COMMAND]))
        peaks = _memory(server, database, folder, large=large)
        _say(f"Peak memory of the serving side at {size_mb} MB:{peaks}\n")
    return tables.median_seconds(results["unchanged"], OURS)


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


def main() -> int:
    """Measure and print the tables."""
    arguments = _arguments()
    if arguments.link:
        return _run_on_link(arguments.link)
    # An end by SIGTERM cleans up like any other.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    log.configure(LogConfig(), by_hand=True)
    sizes = [*arguments.sizes, *([_LARGE_MB] if arguments.large else [])]
    way = f"a loopback of {os.environ[_LINK]} Mbit/s" if _LINK in os.environ else "loopback"
    _say(f"{machine.describe(arguments.folder)}; everything over sshd on {way}.\n")
    unchanged = {}
    for size_mb in sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="gymdbd-bench-") as name:
            folder = Path(name).resolve()
            environment = transfers.quiet_home(folder)
            with SshServer(folder / "sshd", environment=environment) as server:
                unchanged[size_mb] = measure_size(size_mb, arguments.runs, folder, server)
    seconds = ", ".join(f"{took:.3f} s at {size_mb} MB" for size_mb, took in unchanged.items())
    _say(f"Unchanged: {seconds}.")
    if not shutil.which("sqlite3_rsync"):
        _say(_REFERENCE)
    return 0


def _run_on_link(megabits: int) -> int:
    """Begin again in a network of our own, whose loopback is as slow as that."""
    commands = (
        "ip link set lo up",
        f"tc qdisc add dev lo root tbf rate {megabits}mbit burst 256k latency 100ms",
        f"export {_LINK}={megabits}",
        'exec "$@"',
    )
    again = [word for word in sys.argv[1:] if not word.startswith("--link=")]
    if "--link" in again:
        at = again.index("--link")
        del again[at : at + 2]
    words = ["sh", "-ec", "\n".join(commands), "-", sys.executable, "-m", "tests.benchmarks.pull"]
    return subprocess.run(["unshare", "--net", *words, *again], check=False).returncode


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--sizes", type=lambda text: [int(one) for one in text.split(",") if one], default=[3, 500]
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also 5000 MB")
    parser.add_argument("--link", type=int, metavar="MBIT", help="over a slower loopback")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to measure"
    )
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

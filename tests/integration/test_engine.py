"""The pull engine end to end: a shipped serving process, pipes, and real databases."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from gymdbd.errors import StoppedError
from gymdbd.remote import bootstrap, delta
from gymdbd.remote.client import Session
from gymdbd.remote.errors import PythonTooOldError, ShellNoiseError
from gymdbd.source.errors import (
    ConnectionLostError,
    SourceEmptyError,
    SourceError,
    SourceMissingError,
    SourceNotADatabaseError,
    SourceNotAFileError,
    SourceUnreadableError,
)
from gymdbd.source.fingerprint import take
from gymdbd.source.format import MAIN_FILE, ONLINE_BACKUP, PAGE_RULE
from gymdbd.source.pages import Pages, open_pages
from tests.support import samples
from tests.support.engine import make_members, open_app, problems, serving, session, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.remote.fetch import Fetched
    from gymdbd.source.fingerprint import Fingerprint

_PYTHONS = sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"))

# Each transaction keeps two tables in step; a torn snapshot would have them disagree.
_WRITER = """
import random, sqlite3, sys
app = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
app.execute("PRAGMA synchronous=OFF")
app.execute("PRAGMA wal_autocheckpoint=50")
while True:
    app.execute("BEGIN IMMEDIATE")
    amount = random.randrange(-99, 100)
    app.execute("INSERT INTO entry(amount, note) VALUES (?, randomblob(?))",
                (amount, random.randrange(1500)))
    app.execute("UPDATE total SET rows = rows + 1, amount = amount + ?", (amount,))
    if random.random() < 0.04:
        first = app.execute("SELECT min(id) FROM entry").fetchone()[0]
        gone, lost = app.execute(
            "SELECT count(*), coalesce(sum(amount), 0) FROM entry WHERE id < ? + 45", (first,)
        ).fetchone()
        app.execute("DELETE FROM entry WHERE id < ? + 45", (first,))
        app.execute("UPDATE total SET rows = rows - ?, amount = amount - ?", (gone, lost))
    app.execute("COMMIT")
"""


@contextlib.contextmanager
def writing_at_full_rate(path: Path) -> Iterator[None]:
    """Run a process that commits as fast as it can, keeping two tables in step."""
    with closing(open_app(path)) as app:
        app.execute("CREATE TABLE entry(id INTEGER PRIMARY KEY, amount INT, note BLOB)")
        app.execute("CREATE INDEX by_amount ON entry(amount)")
        app.execute("CREATE TABLE total(rows INT, amount INT)")
        app.execute("INSERT INTO total VALUES (0, 0)")
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
    try:
        wait_until(lambda: path.with_name(path.name + "-wal").exists())
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(20)


def pull(source: Path, target: Path, saved: Fingerprint | None = None) -> Fetched:
    """Pull once."""
    with session(source) as remote:
        plan = remote.plan(saved, target.stat().st_size if target.exists() else None)
        return remote.fetch(target, plan)


def content(path: Path) -> list[tuple[object, ...]]:
    """Read all members."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT * FROM member ORDER BY id").fetchall()


def strategies(results: list[Fetched]) -> set[str]:
    """Name the strategies that were used."""
    return {result.strategy for result in results}


def test_every_snapshot_pulled_from_a_writer_at_full_rate_is_whole(tmp_path: Path) -> None:
    """Each of many pulls is sound, keeps both tables in step, and has the rows that were told."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    saved: Fingerprint | None = None
    results: list[Fetched] = []
    with writing_at_full_rate(source):
        for turn in range(samples.count(10, of=60)):
            with session(source) as remote:
                known = saved if turn % 5 else None
                plan = remote.plan(known, target.stat().st_size if target.exists() else None)
                result = remote.fetch(target, plan)
                rows = remote.count_rows()
            saved = result.fingerprint
            results.append(result)
            assert problems(target) == []
            with closing(sqlite3.connect(f"file:{target}?immutable=1", uri=True)) as replica:
                entries = replica.execute("SELECT count(*), coalesce(sum(amount), 0) FROM entry")
                total = replica.execute("SELECT rows, amount FROM total").fetchone()
                assert entries.fetchone() == total
            assert rows == {"entry": total[0], "total": 1}

    assert strategies(results) >= {delta.FULL, delta.DIGEST}
    assert {result.method for result in results} <= {PAGE_RULE, MAIN_FILE}


def test_a_wal_tail_pull_costs_what_changed(tmp_path: Path) -> None:
    """A few changed rows bring their pages, and nothing else is sent."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    make_members(source, 20_000)
    with closing(open_app(source)) as app:
        app.execute("UPDATE member SET visits = 1 WHERE id = 1")
        first = pull(source, target)
        app.execute("UPDATE member SET visits = 2 WHERE id IN (1, 19000)")
        second = pull(source, target, first.fingerprint)
        with session(source) as remote:
            third = remote.plan(second.fingerprint, target.stat().st_size)

        assert (second.strategy, second.pages_changed) == (delta.TAIL, 2)
        assert second.bytes_received < 4000
        assert third.strategy == delta.UNCHANGED
        assert content(target) == content(source)


def test_a_new_wal_over_an_untouched_main_file_is_a_tail_too(tmp_path: Path) -> None:
    """After a checkpoint before the last pull, the new WAL holds all that changed since."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    make_members(source)
    wait_until(lambda: _age_s(source) > 1.1)
    first = pull(source, target)
    with closing(open_app(source)) as app:
        app.execute("UPDATE member SET visits = 5 WHERE id = 700")
        second = pull(source, target, first.fingerprint)

        assert (first.method, second.strategy) == (MAIN_FILE, delta.TAIL)
        assert content(target) == content(source)


def test_a_main_file_that_was_just_written_may_change_again_unseen(tmp_path: Path) -> None:
    """Within the resolution of its times a write leaves no trace: it is not taken for settled."""
    source = tmp_path / "gym.db"
    make_members(source)

    def taken() -> Fingerprint:
        with closing(open_pages(source, busy_timeout_s=1)) as pages:
            return take(pages)

    at_once: list[Fingerprint] = []

    def was_quick() -> bool:
        source.touch()
        at_once.append(taken())
        return at_once[-1].taken_ns - at_once[-1].ctime_ns < 900_000_000

    wait_until(was_quick)
    assert not at_once[-1].settled
    wait_until(lambda: _age_s(source) > 1.1)
    assert taken().settled


def _age_s(path: Path) -> float:
    probe = path.with_name("probe")
    probe.touch()
    return probe.stat().st_ctime - path.stat().st_ctime


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_digest_pull_follows_growth_and_truncation(
    tmp_path: Path, page_size: int, journal_mode: str
) -> None:
    """Without a usable WAL the pages that differ are found, whatever the file's new size."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA encoding='UTF-16be'")
        connection.execute("VACUUM")
    make_members(source, 3000, journal_mode=journal_mode)
    results = [pull(source, target)]
    with closing(open_app(source, journal_mode=journal_mode)) as app:
        for change in (
            "UPDATE member SET visits = 7 WHERE id = 1500",
            "INSERT INTO member(name) SELECT name FROM member",
            "DELETE FROM member WHERE id > 100",
            "VACUUM",
        ):
            app.execute(change)
            results.append(pull(source, target))
            assert problems(target) == []
            assert content(target) == content(source)

    assert [result.strategy for result in results] == [delta.FULL] + [delta.DIGEST] * 4
    assert results[1].pages_changed <= 3
    assert target.stat().st_size == results[-1].pages_total * page_size


def test_the_replica_needs_no_wal(tmp_path: Path) -> None:
    """A replica of a database in WAL mode opens read-only and leaves no file beside it."""
    source, folder = tmp_path / "gym.db", tmp_path / "replica"
    folder.mkdir()
    make_members(source)
    with closing(open_app(source)) as app:
        app.execute("UPDATE member SET visits = 3")
        pull(source, folder / "replica.db")

        assert content(folder / "replica.db") == content(source)
    assert [path.name for path in folder.iterdir()] == ["replica.db"]


def test_rot_in_the_replica_is_found_and_mended_by_digest(tmp_path: Path) -> None:
    """One bit changed here costs one page."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    make_members(source)
    pull(source, target)
    whole = target.read_bytes()
    with target.open("r+b") as file:
        file.seek(3 * 4096 + 17)
        file.write(b"\xee")
    result = pull(source, target)

    assert (result.strategy, result.pages_changed) == (delta.DIGEST, 1)
    assert target.read_bytes() == whole


class CutReader:
    """A stream that ends after so many bytes."""

    def __init__(self, stream: IO[bytes], length: int) -> None:
        self._stream = stream
        self._left = length

    def read(self, size: int, /) -> bytes:
        """Read until the cut."""
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def fetch_all(
    reader: CutReader, writer: IO[bytes], prelude: Callable[[], bytes], target: Path
) -> None:
    """Begin a session and fetch everything."""
    remote = Session(reader, writer, prelude=prelude)
    remote.fetch(target, remote.plan(None, None))


@pytest.mark.parametrize("length", [0, 5, 11, 300, 2_000, 200_000])
def test_a_cut_connection_is_named_and_resumed(tmp_path: Path, length: int) -> None:
    """Wherever the stream ends, what had arrived is not fetched again."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    make_members(source)
    with closing(open_app(source)) as app:
        # Not to be compressed, so that the cut falls between many batches.
        app.execute("CREATE TABLE photo(data BLOB)")
        app.execute("INSERT INTO photo VALUES (randomblob(2000000))")
        with serving() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            reader = CutReader(process.stdout, length)
            prelude = functools.partial(bootstrap.bundle, str(source))
            with pytest.raises(ConnectionLostError):
                fetch_all(reader, process.stdin, prelude, target)
        arrived = target.stat().st_size if target.exists() else 0
        result = pull(source, target)

        assert content(target) == content(source)
        assert result.pages_changed == result.pages_total - arrived // 4096
        assert (length < 200_000) or arrived > 100_000


def test_a_check_that_raises_stops_between_batches(tmp_path: Path) -> None:
    """The caller's check ends a fetch, and its progress is told in bytes of the database."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    make_members(source, 20_000)
    steps: list[tuple[str, int, int]] = []

    def check() -> None:
        if len(steps) > 2:
            raise StoppedError("asked to stop")

    with session(source, progress=lambda *step: steps.append(step), check=check) as remote:
        with pytest.raises(StoppedError):
            remote.fetch(target, remote.plan(None, None))
        size = remote.fingerprint.size_bytes

    assert {(step, total) for step, _, total in steps} == {("transfer", size)}
    assert 0 < steps[-1][1] < size


@pytest.mark.parametrize("python", _PYTHONS, ids=str)
def test_the_shipped_modules_run_under_every_python(tmp_path: Path, python: Path) -> None:
    """From 3.9 on the serving side works with -I -S; an older one is named."""
    version = python.parent.parent.name
    source, target = tmp_path / "회원 명부's\n.db", tmp_path / "replica.db"
    make_members(source)
    supported = tuple(int(part) for part in version.split(".")[:2]) >= (3, 9)
    if not supported:
        expected = version.rsplit(".", 1)[0]
        with (
            pytest.raises(PythonTooOldError, match=f"is {expected}"),
            session(source, python=str(python)),
        ):
            pass
        return
    with session(source, python=str(python)) as remote:
        remote.fetch(target, remote.plan(None, None))
        rows, facts = remote.count_rows(), remote.info()

    assert rows == {"member": 2000}
    assert (facts["python"], facts["page_count"]) == (version, target.stat().st_size // 4096)
    assert content(target) == content(source)


def test_serving_writes_nothing(tmp_path: Path) -> None:
    """A pull leaves the main file and the WAL as they are, and no other file anywhere."""
    folder = tmp_path / "instance"
    folder.mkdir()
    source = folder / "gym.db"
    make_members(source)
    with closing(open_app(source)) as app:
        app.execute("UPDATE member SET visits = 1")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        pull(source, tmp_path / "replica.db")
        after = {path.name: path.read_bytes() for path in folder.iterdir()}

    assert set(after) == set(before) == {"gym.db", "gym.db-wal", "gym.db-shm"}
    assert (after["gym.db"], after["gym.db-wal"]) == (before["gym.db"], before["gym.db-wal"])


def test_an_installed_server_serves_its_own_database_and_no_other(tmp_path: Path) -> None:
    """What a client ships and asks for is skipped where the command was fixed on the other side."""
    source, secret, target = (tmp_path / name for name in ("gym.db", "secret.db", "replica.db"))
    make_members(source, 10)
    make_members(secret, 20)
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(Path(bootstrap.__file__).parents[2])!r}); "
        "from gymdbd.source.server import main; main(pathlib.Path(sys.argv[1]))"
    )
    started = [sys.executable, "-c", code]
    with serving([*started, str(source)]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        remote = Session(
            process.stdout, process.stdin, prelude=functools.partial(bootstrap.bundle, str(secret))
        )
        remote.fetch(target, remote.plan(None, None))

        assert remote.count_rows() == {"member": 10}
    assert len(content(target)) == 10


def test_an_unchanged_database_costs_the_same_at_any_size(tmp_path: Path) -> None:
    """Telling that nothing changed reads as many bytes of a large database as of a small one."""
    read = []
    for rows in (100, 50_000):
        source = tmp_path / f"{rows}.db"
        make_members(source, rows)
        with closing(open_app(source)) as app, serving() as process:
            app.execute("UPDATE member SET visits = 1 WHERE id = 1")
            assert process.stdin is not None
            assert process.stdout is not None
            prelude = functools.partial(bootstrap.bundle, str(source))
            remote = Session(process.stdout, process.stdin, prelude=prelude)
            plan = remote.plan(remote.fingerprint, remote.fingerprint.size_bytes)
            assert plan.strategy == delta.UNCHANGED
            facts = Path(f"/proc/{process.pid}/io").read_text()
            read.append(int(facts.split()[1]))

    assert abs(read[1] - read[0]) < 16_384


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda _: None, SourceMissingError),
        (lambda path: path.touch(), SourceEmptyError),
        (lambda path: path.mkdir(), SourceNotAFileError),
        (os.mkfifo, SourceNotAFileError),
        (lambda path: path.write_bytes(b"no database " * 999), SourceNotADatabaseError),
    ],
)
def test_a_source_that_cannot_be_served_is_named_here(
    tmp_path: Path, make: object, error: type[SourceError]
) -> None:
    """The error of the other side arrives as one of the same class, with its hint."""
    source = tmp_path / "gym.db"
    assert callable(make)
    make(source)
    with pytest.raises(error) as caught, session(source):
        pass

    assert str(source) in str(caught.value)
    assert caught.value.hint


def test_a_talking_shell_is_named(tmp_path: Path) -> None:
    """What start-up files print before the server speaks is shown in the error."""
    source = tmp_path / "gym.db"
    make_members(source)
    arguments = bootstrap.arguments(sys.executable)
    noisy = ["/bin/sh", "-c", 'echo "Welcome to the gym"; exec "$@"', "sh", *arguments]
    prelude = functools.partial(bootstrap.bundle, str(source))
    with serving(noisy) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with pytest.raises(ShellNoiseError, match="Welcome to the gym"):
            Session(process.stdout, process.stdin, prelude=prelude)


def test_a_spooled_snapshot_is_the_same_one_within_its_limit(tmp_path: Path) -> None:
    """Where pages cannot be read directly SQLite copies them aside, says so, and has a limit."""
    source = tmp_path / "gym.db"
    make_members(source)
    with Pages(source) as pages:
        pages.load()
        directly = pages.read(1, pages.count)
        with pytest.raises(SourceUnreadableError, match="more than the 4096"):
            pages.spool(reason="a test", limit_bytes=4096)
        pages.spool(reason="a test")
        spooled = pages.read(1, pages.count)

    assert (pages.method, pages.reason) == (ONLINE_BACKUP, "a test")
    assert spooled[100:] == directly[100:]


def test_memory_stays_under_40_mib_and_the_lock_byte_page_is_no_difference(tmp_path: Path) -> None:
    """At 1.1 GB, past the page at 1 GiB, full and digest pulls are right in constant memory."""
    source, target = tmp_path / "gym.db", tmp_path / "replica.db"
    with closing(open_app(source, journal_mode="off")) as app:
        app.execute("CREATE TABLE member(id INTEGER PRIMARY KEY, data BLOB)")
        app.executemany("INSERT INTO member(data) VALUES (zeroblob(?))", [(275_000_000,)] * 4)
    peaks = []
    with closing(open_app(source)) as app:
        for strategy in (delta.FULL, delta.DIGEST):
            app.execute("UPDATE member SET data = zeroblob(30000000) WHERE id = 2")
            with serving() as process:
                assert process.stdin is not None
                assert process.stdout is not None
                prelude = functools.partial(bootstrap.bundle, str(source))
                remote = Session(process.stdout, process.stdin, prelude=prelude)
                plan = remote.plan(None, target.stat().st_size if target.exists() else None)
                result = remote.fetch(target, plan)
                peaks.append(_peak_kib(process.pid))
            assert result.strategy == strategy

    assert problems(target) == []
    assert max(peaks) < 40 * 1024


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

"""A copy that is not what it should be is refused, each kind with its own error."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive import proof
from gymdbd.errors import CopyDamagedError, DeadlineError, VerificationError
from gymdbd.source import database
from gymdbd.source.counting import count_rows
from gymdbd.source.schema import read_facts
from tests.support.databases import make_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PAGE = 4096


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of a database with an index, not yet changed in any way."""
    source = make_database(tmp_path / "source.db", rows=200, mode="delete")
    _execute(source, "CREATE INDEX by_text ON t (text)", "PRAGMA user_version=7")
    shutil.copy(source, tmp_path / "copy.db")
    return tmp_path / "copy.db"


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _expected(copy: Path) -> dict[str, Any]:
    """Return the facts and rows of the source."""
    with closing(database.open_immutable(copy.with_name("source.db"))) as connection:
        facts = read_facts(connection)
        return {**vars(facts), "rows": count_rows(connection, facts)}


def _nothing() -> None:
    """Let the proof go on."""


def _prove(
    copy: Path, check: Callable[[], None] = _nothing, *, quick: bool = False
) -> proof.Checksums:
    integrity = proof.QUICK if quick else proof.FULL
    return proof.prove(copy, _expected(copy), check, integrity=integrity).sums


def _page_of_index(path: Path) -> int:
    """Return the offset of the last page of the index."""
    with closing(database.open_immutable(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'by_text'"
        ).fetchone()
    return int(page - 1) * _PAGE


@pytest.mark.parametrize("quick", [False, True])
def test_a_true_copy_is_proven_and_its_checksums_are_those_of_hashlib(
    copy: Path, quick: bool
) -> None:
    """The size and both hashes are those of the bytes of the file."""
    data = copy.read_bytes()
    expected = proof.Checksums(
        len(data),
        hashlib.md5(data, usedforsecurity=False).hexdigest(),
        hashlib.sha256(data).hexdigest(),
    )
    assert _prove(copy, quick=quick) == expected
    assert proof.checksums(copy) == expected


def test_bytes_other_than_expected_are_told_before_what_they_hold(copy: Path) -> None:
    """A page that this disk has spoilt must not be blamed on what the copy was made from."""
    right = {"sha256": proof.checksums(copy).sha256}
    assert _prove_bytes(copy, right, ["sha256"]) == proof.Checksums(copy.stat().st_size, **right)
    with copy.open("r+b") as file:
        file.seek(_page_of_index(copy))
        file.write(b"\xff" * _PAGE)
    with pytest.raises(VerificationError, match=r"sha256 \w+ for \w+") as caught:
        _prove_bytes(copy, right, ["sha256"])
    assert type(caught.value) is VerificationError


def _prove_bytes(copy: Path, expected: dict[str, str], hashes: list[str]) -> proof.Checksums:
    return proof.prove(copy, expected, lambda: None, hashes=hashes).sums


def test_a_file_of_more_than_one_piece_has_the_checksums_of_hashlib(tmp_path: Path) -> None:
    """Files are read in pieces of 1 MiB; none is lost or taken twice."""
    data = bytes(range(256)) * (3 * 4096 + 1)
    (tmp_path / "large").write_bytes(data)
    assert proof.checksums(tmp_path / "large").sha256 == hashlib.sha256(data).hexdigest()


def test_a_proof_leaves_nothing_beside_the_copy(copy: Path) -> None:
    """Neither a -wal nor a -shm nor a journal, and the file as it was."""
    before = (copy.stat().st_mtime_ns, sorted(copy.parent.iterdir()))
    _prove(copy)
    assert (copy.stat().st_mtime_ns, sorted(copy.parent.iterdir())) == before


@pytest.mark.parametrize("quick", [False, True])
def test_a_copy_with_missing_rows_is_refused(copy: Path, quick: bool) -> None:
    """It is sound in itself; the error names the table and both numbers."""
    _execute(copy, "DELETE FROM t WHERE id > 190")
    with pytest.raises(VerificationError, match=r"rows t: 190 for 200") as caught:
        _prove(copy, quick=quick)
    assert type(caught.value) is VerificationError


def test_a_copy_with_another_schema_is_refused(copy: Path) -> None:
    """An index that is missing changes no row."""
    _execute(copy, "DROP INDEX by_text", "CREATE INDEX other ON t (text)")
    with pytest.raises(VerificationError, match="is not the snapshot it was made from: schema"):
        _prove(copy)


def test_a_copy_with_another_page_count_is_refused(copy: Path) -> None:
    """Pages of the free list belong to the snapshot too."""
    _execute(copy, "CREATE TABLE x AS SELECT * FROM t", "DROP TABLE x")
    with pytest.raises(VerificationError, match=r"page_count \d+ for \d+"):
        _prove(copy)


def test_a_copy_with_another_user_version_is_refused(copy: Path) -> None:
    """An application decides by it which of its migrations to run."""
    _execute(copy, "PRAGMA user_version=6")
    with pytest.raises(VerificationError, match="user_version 6 for 7"):
        _prove(copy)


def test_a_copy_of_zero_length_is_refused(copy: Path) -> None:
    """It passes the integrity check, as a database without tables."""
    copy.write_bytes(b"")
    with pytest.raises(VerificationError) as caught:
        _prove(copy)
    assert type(caught.value) is VerificationError


def test_a_cut_copy_is_damaged(copy: Path) -> None:
    """Its end is missing."""
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size - _PAGE)
    with pytest.raises(CopyDamagedError):
        _prove(copy)


def test_a_copy_that_is_no_database_is_damaged(copy: Path) -> None:
    """Its first page was overwritten."""
    with copy.open("r+b") as file:
        file.write(b"\xff" * _PAGE)
    with pytest.raises(CopyDamagedError, match="not a database"):
        _prove(copy)


@pytest.mark.parametrize("quick", [False, True])
def test_a_copy_with_a_flipped_page_is_damaged(copy: Path, quick: bool) -> None:
    """What SQLite reports about it is carried along, and the hint leads to the disk."""
    with copy.open("r+b") as file:
        file.seek(_page_of_index(copy))
        file.write(b"\xff" * _PAGE)
    with pytest.raises(CopyDamagedError) as caught:
        _prove(copy, quick=quick)
    assert caught.value.problems != ()
    assert "dmesg" in caught.value.hint


def test_only_a_quick_proof_overlooks_an_index_that_contradicts_its_table(copy: Path) -> None:
    """The full one compares every index with its table; that is what quick saves."""
    with copy.open("r+b") as file:
        data = file.read()
        # In the index the text stands once more, in the table it stands first or last.
        position = data.index(b"row 42row 42", _page_of_index_leaf(copy, data))
        file.seek(position)
        file.write(b"ROW 42")
    _prove(copy, quick=True)
    with pytest.raises(CopyDamagedError, match="by_text"):
        _prove(copy)


def _page_of_index_leaf(copy: Path, data: bytes) -> int:
    """Return the offset of the first leaf page of an index, by its kind of 10."""
    del copy
    return next(at for at in range(_PAGE, len(data), _PAGE) if data[at] == 10)


@pytest.mark.parametrize("quick", [False, True])
def test_a_stopped_run_ends_a_proof(copy: Path, quick: bool) -> None:
    """What the check raises comes out as it is, not as damage."""

    def check() -> None:
        raise DeadlineError("it took too long")

    with pytest.raises(DeadlineError):
        _prove(copy, check, quick=quick)


def test_a_busy_machine_makes_no_check_longer(tmp_path: Path) -> None:
    """While the check waits for a processor, it takes none; the time is that of the check."""
    path = make_database(tmp_path / "large.db", rows=100_000)
    waited: list[bool] = []
    never = threading.Event()

    def wait() -> None:
        if threading.current_thread() is threading.main_thread() and not waited:
            waited.append(never.wait(1))

    proven = proof.prove(path, {}, wait, hashes=())
    assert waited == [False]
    assert 0 < proven.check_s < 1


def test_a_long_check_of_sqlite_ends_with_what_stopped_it(tmp_path: Path) -> None:
    """The database is not called unreadable for that, although the hashes are there by then."""
    large = make_database(tmp_path / "large.db", rows=40_000, mode="delete")
    right = {"sha256": proof.checksums(large).sha256}

    def check() -> None:
        if threading.current_thread() is threading.main_thread():
            raise DeadlineError("it took too long")

    with pytest.raises(DeadlineError):
        proof.prove(large, right, check)

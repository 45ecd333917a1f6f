"""The machine is dead: one command puts the database on a new one, proven, or nothing at all."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.source.format import VERSIONS, WITH_WAL
from tests.support import ledger
from tests.support.command import gymdbd_json

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pulling import Peer


def rebuild(peer: Peer, *words: object, ssh: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Run it with the configuration of the pull; return its exit code and its JSON."""
    return gymdbd_json("-c", peer.config(ssh=ssh, **changes), "rebuild", *words)


def lose(peer: Peer) -> None:
    """Let the machine over there be a new one: its folder is empty."""
    for path in peer.database.parent.iterdir():
        path.unlink()


def pay(database: Path) -> None:
    """Let the application over there commit something."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE accounts SET paid = paid + 1 WHERE id = 1")
        connection.commit()


@pytest.fixture
def dead(peer: Peer) -> Peer:
    """Give a machine that was pulled from, and then lost its database."""
    peer.database.chmod(0o640)
    peer.pull()
    lose(peer)
    return peer


def test_the_replica_is_put_where_the_database_was(dead: Peer) -> None:
    """Whole, with the mode that it had, in WAL mode as it was, and nothing else beside it."""
    code, result = rebuild(dead)
    assert (code, result["state"]) == (0, "ok"), result
    assert [path.name for path in dead.database.parent.iterdir()] == [dead.database.name]
    assert result["sha256"] == hashlib.sha256(dead.database.read_bytes()).hexdigest()
    assert dead.database.stat().st_mode & 0o7777 == 0o640
    assert dead.database.read_bytes()[VERSIONS] == WITH_WAL
    assert ledger.check_copy(dead.database).problems == ()


def test_the_next_pull_goes_on_and_compares_instead_of_transferring(dead: Peer) -> None:
    """The new file holds the same pages: only their digests travel, and then the change."""
    rebuild(dead)
    first = dead.pull()
    assert (first.strategy, first.pages_changed, first.is_unchanged) == ("digest", 0, True)
    assert first.bytes_received < dead.replica.stat().st_size / 4
    pay(dead.database)
    again = dead.pull()
    assert (again.strategy, 0 < (again.pages_changed or 0) < 5) == ("digest", True)

"""A source that comes up empty: the replica follows it, and what was good before is kept."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive.catalog import Catalog
from gymdbd.config.parts import Gates, Keep
from gymdbd.errors import SuspiciousError
from tests.support import ledger, samples
from tests.support.command import gymdbd_json
from tests.support.databases import backups, query

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pulling import Peer

_ROWS = "SELECT count(*) FROM payments"


def _change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as app, app:
        for statement in statements:
            app.execute(statement)


def _empty(peer: Peer) -> None:
    """Let the application come up with an empty database: no row in any table."""
    _change(peer.database, *(f"DELETE FROM {name}" for name in ("accounts", "payments", "totals")))


def _is_suspicious(peer: Peer, **changes: Any) -> str:
    """Pull, which must leave a suspicious replica; return why."""
    with pytest.raises(SuspiciousError) as caught:
        peer.pull(**changes)
    assert caught.value.result is not None
    return caught.value.message


def _verdicts(peer: Peer) -> list[tuple[str, bool]]:
    """Return the verdict of every backup in the archive, and whether it is pinned."""
    listed = Catalog(peer.archive, UTC).backups()
    return [(one.verdict, one.marks.kept_at is not None) for one in listed]


def _rows_of_latest(peer: Peer) -> int:
    path = Catalog(peer.archive, UTC).find("latest", peer.job().origin).path
    return int(query(path, _ROWS)[0][0])


@pytest.mark.parametrize("method", ["query", "scp"])
@pytest.mark.parametrize("backup_before", [True, False])
def test_the_good_state_outlives_any_number_of_empty_ones(
    peer: Peer, method: str, *, backup_before: bool
) -> None:
    """Several pulls with a rule that keeps one: the replica is empty, the good state is pinned."""
    settings: dict[str, Any] = {"method": method, "backup_before": backup_before}
    settings["keep"] = Keep(count=1)
    peer.pull(**settings)
    _empty(peer)
    for number in range(samples.count(2, of=7)):
        _change(peer.database, f"PRAGMA user_version = {number + 1}")
        reason = _is_suspicious(peer, **settings)
        assert "table payments is empty, it had 400 rows" in reason
    assert query(peer.replica, _ROWS) == [(0,)]
    good = [verdict for verdict, _ in _verdicts(peer) if verdict == "verified"]
    assert (good, _verdicts(peer)[-1], _rows_of_latest(peer)) == (
        ["verified"],
        ("verified", True),
        400,
    )
    assert {verdict for verdict, _ in _verdicts(peer)[:-1]} <= {"suspicious"}
    assert Catalog(peer.archive, UTC).frozen(peer.job().origin) != ""


def test_a_pull_that_finds_nothing_new_stays_suspicious(peer: Peer) -> None:
    """Otherwise the second pull would be a success."""
    peer.pull()
    _empty(peer)
    _is_suspicious(peer)
    assert "payments is empty" in _is_suspicious(peer)


def test_a_source_that_is_mended_is_compared_with_the_good_state(peer: Peer) -> None:
    """Half of the rows are back: with gates that is still too little; all of them will do."""
    gates = Gates(max_row_drop=20)
    peer.pull(gates=gates, backup_before=False)
    saved = peer.database.read_bytes()
    _change(peer.database, "DELETE FROM payments WHERE id > 12")
    assert "fell from 400 to 12 rows, more than 20 %" in _is_suspicious(
        peer, gates=gates, backup_before=False
    )
    _change(peer.database, "INSERT INTO payments SELECT id + 12, account, 1, x'' FROM payments")
    assert "fell from 400 to 24 rows" in _is_suspicious(peer, gates=gates, backup_before=False)
    for end in ("-wal", "-shm"):
        # Whoever closed last beside a reader has left them.
        peer.database.with_name(peer.database.name + end).unlink(missing_ok=True)
    peer.database.write_bytes(saved)
    result = peer.pull(gates=gates, backup_before=False)
    assert (result.tables["payments"], result.waiting) == (400, None)
    assert _verdicts(peer) == [("verified", False)]
    assert Catalog(peer.archive, UTC).frozen(peer.job().origin) == ""


def test_without_gates_a_pull_lets_rows_go(peer: Peer) -> None:
    """A configuration of before knows none: only what is emptied or gone counts."""
    peer.pull()
    _change(peer.database, "DELETE FROM payments WHERE id > 1", "DELETE FROM totals")
    assert peer.pull().tables["payments"] == 1
    _change(peer.database, "DROP TABLE accounts")
    assert "table accounts is gone, it had 50 rows" in _is_suspicious(peer)


def test_a_lost_note_of_the_last_pull_makes_nothing_good(peer: Peer) -> None:
    """The archive knows the good state too."""
    peer.pull()
    _empty(peer)
    _is_suspicious(peer)
    peer.replica.with_name(f".{peer.replica.name}.pull.json").unlink()
    assert "payments is empty" in _is_suspicious(peer)
    assert _rows_of_latest(peer) == 400


@pytest.mark.parametrize("lost", ["note", "host"])
def test_a_replica_of_which_nothing_is_known_is_compared_as_it_lies_there(
    peer: Peer, lost: str
) -> None:
    """Its note is gone, or the other machine has a new name: it is all that there is to compare."""
    settings: dict[str, Any] = {"backup_before": False, "keep": Keep(count=1)}
    peer.pull(**settings)
    _empty(peer)
    if lost == "note":
        peer.replica.with_name(f".{peer.replica.name}.pull.json").unlink()
    else:
        settings["host"] = "localhost"
        # Beside the name that the tests after this one know it by.
        known = peer.server.known_hosts.read_text()
        peer.server.known_hosts.write_text(known + known.replace("127.0.0.1", "localhost"))
    assert "table payments is empty, it had 400 rows" in _is_suspicious(peer, **settings)
    assert (_verdicts(peer), _rows_of_latest(peer)) == ([("verified", True)], 400)


def test_check_says_that_a_pull_waits_for_an_answer(peer: Peer) -> None:
    """It names the job, which is what accept and reject take."""
    config = peer.config()
    gymdbd_json("-c", config, "pull")
    _empty(peer)
    gymdbd_json("-c", config, "pull")
    found = gymdbd_json("-c", config, "check")[1]["checks"]
    (archive,) = [one for one in found if one["name"] == "pull archive"]
    assert archive["state"] == "warning"
    assert f"pruning is frozen: the replica {peer.replica} is suspicious" in archive["message"]
    assert "gymdbd accept pull or gymdbd reject pull" in archive["hint"]


def test_accepting_a_pull_accepts_its_replica(peer: Peer) -> None:
    """Status is well again, the pin is gone, and the next pull is compared with what there is."""
    config = peer.config()
    assert gymdbd_json("-c", config, "pull")[0] == 0
    _empty(peer)
    code, result = gymdbd_json("-c", config, "pull")
    assert (code, result["state"], result["tables"]["payments"]) == (1, "suspicious", 0)
    assert "gymdbd accept pull" in result["hint"]
    assert gymdbd_json("-c", config, "status")[0] == 2
    code, accepted = gymdbd_json("-c", config, "accept", "pull")
    assert (code, accepted["accepted"]) == (0, [str(peer.replica)])
    assert gymdbd_json("-c", config, "status")[0] == 0
    assert _verdicts(peer) == [("verified", False)]
    assert gymdbd_json("-c", config, "pull")[1]["state"] == "unchanged"


def test_rejecting_a_pull_lets_pruning_go_on_and_keeps_the_good_state(peer: Peer) -> None:
    """Once the source is mended all is well by itself; what was rejected is never offered."""
    config = peer.config(keep={"count": 1})
    gymdbd_json("-c", config, "pull")
    saved = peer.database.read_bytes()
    _empty(peer)
    gymdbd_json("-c", config, "pull")
    code, rejected = gymdbd_json("-c", config, "reject", "pull")
    assert (code, rejected["rejected"]) == (0, [str(peer.replica)])
    assert gymdbd_json("-c", config, "status")[0] == 0
    assert Catalog(peer.archive, UTC).frozen(peer.job().origin) == ""
    assert gymdbd_json("-c", config, "pull")[1]["state"] == "suspicious"
    assert _verdicts(peer) == [("verified", True)]
    peer.database.write_bytes(saved)
    assert gymdbd_json("-c", config, "pull")[1]["state"] == "ok"
    assert gymdbd_json("-c", config, "status")[0] == 0
    assert _verdicts(peer) == [("rejected", False), ("verified", False)]
    assert _rows_of_latest(peer) == 400


def test_a_rejected_database_that_goes_on_changing_stops_no_pruning(peer: Peer) -> None:
    """The answer holds as long as the doubts are the same."""
    peer.pull()
    _empty(peer)
    _is_suspicious(peer)
    assert gymdbd_json("-c", peer.config(), "reject", "pull")[0] == 0
    _change(peer.database, "CREATE TABLE lockers (id INTEGER PRIMARY KEY)")
    _is_suspicious(peer)
    assert Catalog(peer.archive, UTC).frozen(peer.job().origin) == ""


def test_a_suspicious_state_that_was_left_behind_waits_for_an_answer(peer: Peer) -> None:
    """The pull is good again; the backup of what it was meanwhile is for somebody to look at."""
    config = peer.config()
    gymdbd_json("-c", config, "pull")
    saved = peer.database.read_bytes()
    _empty(peer)
    gymdbd_json("-c", config, "pull")
    peer.database.write_bytes(saved)
    code, result = gymdbd_json("-c", config, "pull")
    name = backups(peer.archive)[-1].name
    assert (code, result["state"], result["waiting"]) == (0, "ok", name)
    for _ in range(2):
        code, status = gymdbd_json("-c", config, "status")
        reason = f"{name} waits for accept or reject; pruning is stopped"
        assert (code, status["jobs"]["pull"]["reason"]) == (2, reason)
        assert gymdbd_json("-c", config, "pull")[1]["state"] == "unchanged"
    assert gymdbd_json("-c", config, "reject", name)[0] == 0
    assert gymdbd_json("-c", config, "pull")[1]["state"] == "unchanged"
    assert gymdbd_json("-c", config, "status")[0] == 0


def test_a_restore_into_the_replica_answers(peer: Peer) -> None:
    """What is restored is the good state, and the archive is no longer frozen."""
    config = peer.config()
    gymdbd_json("-c", config, "pull")
    _empty(peer)
    gymdbd_json("-c", config, "pull")
    code, restored = gymdbd_json("-c", config, "restore", "latest")
    assert (code, restored["target"]) == (0, str(peer.replica))
    assert ledger.check_copy(peer.replica).problems == ()
    assert Catalog(peer.archive, UTC).frozen(peer.job().origin) == ""


def test_an_emergency_brings_a_suspicious_database_and_keeps_the_good_one(peer: Peer) -> None:
    """Everything is copied; the copy is suspicious, and the good state stays."""
    config = peer.config(keep={"count": 1})
    gymdbd_json("-c", config, "pull")
    _empty(peer)
    code, result = gymdbd_json("-c", config, "emergency")
    steps = [one["state"] for one in result["steps"]]
    assert (code, result["state"], steps) == (1, "suspicious", ["skipped", "suspicious", "ok"])
    assert (_verdicts(peer), _rows_of_latest(peer)) == (
        [("suspicious", True), ("verified", True)],
        400,
    )


def test_a_suspicious_replica_is_no_measure_of_the_next_if_nothing_good_is_left(
    peer: Peer,
) -> None:
    """Somebody has removed the archive with the good state in it: nothing proves the next pull."""
    peer.pull()
    _empty(peer)
    told = _is_suspicious(peer)
    shutil.rmtree(peer.archive)
    _change(peer.database, "CREATE TABLE lockers (id INTEGER PRIMARY KEY)")
    assert _is_suspicious(peer) == told


def test_as_many_suspicious_states_are_kept_as_are_enough(peer: Peer) -> None:
    """None of them is pruned, and every pull may bring another one."""
    peer.pull()
    _empty(peer)
    for number in range(7):
        _change(peer.database, f"CREATE TABLE lockers{number} (id INTEGER PRIMARY KEY)")
        _is_suspicious(peer)
    assert sorted(_verdicts(peer)) == [("suspicious", False)] * 5 + [("verified", True)]


@pytest.mark.parametrize("changed_here", [False, True])
def test_a_replica_of_another_database_is_saved_as_that_of_the_other(
    peer: Peer, *, changed_here: bool
) -> None:
    """After the job got another source, `latest` of the new one is none of the former one."""
    peer.pull()
    if changed_here:
        _change(peer.replica, "DELETE FROM payments WHERE id = 1")
    former, other = peer.job().origin, ledger.create(peer.database.with_name("other.db"))
    with contextlib.suppress(SuspiciousError):  # it holds less than the former one did
        peer.pull(remote_database=str(other))
    catalog = Catalog(peer.archive, UTC)
    (saved,) = catalog.backups()
    assert saved.manifest is not None
    assert saved.manifest.source == str(peer.database)
    assert [backup.path for backup in catalog.backups(former)] == [saved.path]
    new = peer.job(remote_database=str(other)).origin
    assert catalog.backups(new) == []

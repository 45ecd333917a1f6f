"""The keys of the verbs' --json, and of the status file: other programs read them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.support import ledger
from tests.support.command import gymdbd_json
from tests.support.databases import backups, make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pulling import Peer

# More than the gates of a backup leave out of account.
_ROWS = 20
_ENDED = {"schema", "state"}
_FAILED = {*_ENDED, "error", "hint", "code"}
_TIMED = {"duration_s", "timings"}
_BACKUP = {
    *_TIMED,
    *("path", "size", "md5", "sha256", "tables", "remarks", "newest", "checkpoint"),
    *("changes", "pruned", "waiting"),
}
_CHECKPOINT = {"mode", "busy", "log", "checkpointed", "guarded", "skipped", "blocked_by"}
_UNCHANGED = {
    *_TIMED,
    *("strategy", "method", "replica", "reason", "pages_total", "pages_changed"),
    *("bytes_sent", "bytes_received", "size", "tables", "lag_s", "saved"),
}
_COPIED = {*_UNCHANGED, "checked", "remarks", "sha256", "waiting"}
_PULL = {*_COPIED, "read", "copied"}
_VERIFIED = {"backups", "bytes_read", "duration_s"}
_ONE_VERIFIED = {"path", "verdict", "problems", "remarks", "repaired"}
_DRILL = {
    *_TIMED,
    *("backup", "created_at", "age_s", "recover_s", "tables", "probes", "command"),
}
_RESTORE = {
    *_TIMED,
    *("backup", "target", "how", "undo", "undo_command", "tables", "holders"),
    *("written_since", "restart", "remarks", "rejected"),
}
_DRY_RUN = {
    *("dry_run", "backup", "created_at", "age_s", "verdict", "problems", "target", "problem"),
    *("tables", "holders", "needed_bytes", "free_bytes"),
}
_EMERGENCY = {*_TIMED, "steps", "safe_copies", "damaged_copies"}
_STATUS = {
    "machine",
    "notices",
    "peers",
    "remarks",
    *_ENDED,
    "daemon",
    "jobs",
    "problem",
    "daemon_running",
    "daemon_is_mute",
}
_JUDGED = {"kind", "health", "reason", "hint", "next_run"}
_ENTRY = {
    *_JUDGED,
    *("state", "last_run", "last_success", "consecutive_failures", "duration_s", "result"),
    *("error", "code", "runs"),
}
_IN_HISTORY = {
    *("run_id", "reason", "due", "started_at", "ended_at", "duration_s"),
    *("state", "error", "hint", "code", "exit_code"),
}


def _local(folder: Path) -> Path:
    """Write a configuration of everything that needs no other machine; nothing has run yet."""
    database = make_database(folder / "gym.db", rows=40)
    (folder / "archive").mkdir(mode=0o700)
    archive = {"archive": str(folder / "archive"), "every": "1d"}
    newest = {"table": "t", "column": "n"}
    nightly = {"database": str(database), "newest": newest, **archive}
    probe = {"sql": "SELECT count(*) FROM t", "at_least": 0}
    drill = {"kind": "drill", "probes": [probe], "command": ["true"], **archive}
    verify = {"kind": "verify", **archive}
    return write_config(folder, {"nightly": nightly, "drill": drill, "verify": verify})


def _columns(folder: Path) -> None:
    """Give the table of `_local` the columns that it names."""
    with closing(sqlite3.connect(folder / "gym.db", isolation_level=None)) as database:
        database.execute("DROP TABLE IF EXISTS t")
        database.execute("CREATE TABLE t (n)")
        many = [(1790000000 + number,) for number in range(_ROWS)]
        database.executemany("INSERT INTO t VALUES (?)", many)


def test_backup_prints_the_keys_that_it_always_had(tmp_path: Path) -> None:
    """What it made, and how; also of one that is suspicious, or that could only be saved."""
    config = _local(tmp_path)
    _columns(tmp_path)
    made = [gymdbd_json("-c", config, "backup")[1] for _ in range(2)]
    assert [one.keys() for one in made] == [{*_ENDED, *_BACKUP}] * 2
    assert made[0]["checkpoint"].keys() == _CHECKPOINT
    assert made[0]["newest"].keys() == {"table", "column", "value", "at"}
    assert made[1]["changes"].keys() == {"previous", "digest", "tables"}
    with closing(sqlite3.connect(tmp_path / "gym.db", isolation_level=None)) as database:
        database.execute("DELETE FROM t")
    code, suspicious = gymdbd_json("-c", config, "backup")
    assert (code, set(suspicious)) == (1, {*_FAILED, *_BACKUP})
    assert suspicious["newest"].keys() == {"table", "column", "value", "at", "problem"}
    assert suspicious["changes"]["tables"] == {"t": {"added": 0, "changed": 0, "removed": _ROWS}}
    (tmp_path / "gym.db").write_bytes(b"no database, but somebody's file of text")
    code, damaged = gymdbd_json("-c", config, "backup")
    assert (code, set(damaged)) == (1, {*_FAILED, "damaged_copy"})


def test_drill_verify_and_restore_print_the_keys_that_they_always_had(tmp_path: Path) -> None:
    """Also if a backup turns out to be damaged."""
    config = _local(tmp_path)
    _columns(tmp_path)
    gymdbd_json("-c", config, "backup")
    code, drill = gymdbd_json("-c", config, "drill")
    assert (code, set(drill)) == (0, {*_ENDED, *_DRILL})
    assert [one.keys() for one in drill["probes"]] == [{"sql", "value"}]
    assert drill["command"].keys() == {"exit_code", "duration_s"}
    code, verified = gymdbd_json("-c", config, "verify")
    assert (code, set(verified)) == (0, {*_ENDED, *_VERIFIED})
    assert [one.keys() for one in verified["backups"]] == [_ONE_VERIFIED]
    code, plan = gymdbd_json("-c", config, "restore", "latest", "--dry-run")
    assert (code, set(plan)) == (0, {*_ENDED, *_DRY_RUN})
    assert plan["tables"] == {"t": {"now": _ROWS, "then": _ROWS}}
    code, restored = gymdbd_json("-c", config, "restore", "latest")
    assert (code, set(restored)) == (0, {*_ENDED, *_RESTORE})
    newest = backups(tmp_path / "archive")[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    code, damaged = gymdbd_json("-c", config, "verify", newest)
    assert (code, set(damaged)) == (1, {*_FAILED, *_VERIFIED})


def test_pull_and_emergency_print_the_keys_that_they_always_had(peer: Peer) -> None:
    """Of each strategy: everything, changes only, nothing new, and a plain copy."""
    expected = {}
    found = {}
    for name, keys in (("full", _PULL), ("unchanged", _UNCHANGED), ("pages", _PULL)):
        if name == "pages":
            ledger.add_payments(peer.database, 3)
        expected[name] = {*_ENDED, *keys}
        found[name] = peer.pull_by_command()[1]
        while name == "unchanged" and "too recently" in found[name]["reason"]:
            found[name] = peer.pull_by_command()[1]
    assert {name: one.keys() for name, one in found.items()} == expected
    copied = peer.pull_by_command("--method", "scp")[1]
    assert copied.keys() == {*_ENDED, *_COPIED}
    answer = gymdbd_json("-c", peer.config(), "emergency")[1]
    assert answer.keys() == {*_ENDED, *_EMERGENCY}
    steps = {one["name"]: one for one in answer["steps"]}
    assert {name: one.keys() for name, one in steps.items()} == {
        "backup there": {"name", "state", "text"},
        "pull": {"name", "state", "text", "pull"},
        "backup here": {"name", "state", "text", "path"},
    }
    assert steps["pull"]["pull"].keys() >= _UNCHANGED
    assert [one.keys() for one in answer["safe_copies"]] == [{"host", "path"}] * 2


def test_status_prints_the_keys_that_it_always_had(tmp_path: Path) -> None:
    """Of a job that has not run, of one that has, and of one whose run failed."""
    config = _local(tmp_path)
    _columns(tmp_path)
    gymdbd_json("-c", config, "backup")
    (tmp_path / "archive" / "..drill.drill.lock").mkdir()
    gymdbd_json("-c", config, "drill")
    answer = gymdbd_json("-c", config, "status")[1]
    assert answer.keys() == _STATUS
    jobs: dict[str, dict[str, Any]] = answer["jobs"]
    kept = {name: entry.keys() for name, entry in jobs.items()}
    assert kept == {"nightly": _ENTRY, "drill": _ENTRY, "verify": _JUDGED}
    assert jobs["nightly"]["result"].keys() == _BACKUP
    assert [one.keys() for one in jobs["nightly"]["runs"]] == [_IN_HISTORY]
    written = json.loads((tmp_path / "status.json").read_text())
    assert written.keys() == {"schema", "daemon", "jobs"}
    assert written["jobs"]["nightly"].keys() == _ENTRY - {"health", "reason", "next_run"}

"""The machine is dead: one command puts the database on a new one, proven, or nothing at all."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import clock
from gymdbd.errors import SuspiciousError
from gymdbd.source.format import VERSIONS, WITH_WAL
from tests.support import ledger, samples
from tests.support.command import GYMDBD, ROOT, environment, gymdbd, gymdbd_json, require
from tests.support.databases import backups, query
from tests.support.pulling import Peer, crash_after, snapshot_of
from tests.support.receiving import await_arrival
from tests.support.relay import Relay
from tests.support.sshd import SshServer, make_key
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("method", ["scp", "query"])
def test_the_application_finds_the_journal_mode_that_it_had(
    peer: Peer, method: str, mode: str
) -> None:
    """However it was pulled, from the replica and from a former one in the archive."""
    with closing(sqlite3.connect(peer.database)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    peer.pull(method=method)
    pay(peer.database)
    peer.pull(method=method)
    lose(peer)
    for words in ((), ("--backup", "latest")):
        code, result = rebuild(peer, *words, method=method)
        assert code == 0, result
        assert (peer.database.read_bytes()[VERSIONS] == WITH_WAL) == (mode == "wal")
        lose(peer)


def test_a_replica_that_was_damaged_and_mended_keeps_the_journal_mode(peer: Peer) -> None:
    """What is known of its pages is forgotten then, but not how its database works."""
    peer.pull()
    path = peer.replica.parent / ".replica.db.pull.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": None}))
    lose(peer)
    code, result = rebuild(peer)
    assert code == 0, result
    assert peer.database.read_bytes()[VERSIONS] == WITH_WAL


def test_the_next_pull_goes_on_and_compares_instead_of_transferring(dead: Peer) -> None:
    """The new file holds the same pages: only their digests travel, and then the change."""
    rebuild(dead)
    first = dead.pull()
    assert (first.strategy, first.pages_changed, first.is_unchanged) == ("digest", 0, True)
    assert first.bytes_received < dead.replica.stat().st_size / 4
    pay(dead.database)
    again = dead.pull()
    # Which of the two it is depends on how long ago the file was written.
    assert again.strategy in ("digest", "wal-tail")
    assert 0 < (again.pages_changed or 0) < 5


def test_a_dry_run_changes_nothing_on_either_side(dead: Peer) -> None:
    """It checks all that the rebuild itself would, and says what that would do."""
    before = snapshot_of(dead.replica.parent.parent)
    code, result = rebuild(dead, "--dry-run")
    assert (code, result["dry_run"], result["database"]) == (0, True, str(dead.database))
    assert result["next"] == []
    now = snapshot_of(dead.replica.parent.parent)
    assert {name: now[name] for name in before} == before
    assert not dead.database.exists()


def test_a_person_reads_what_was_done_and_what_is_left_to_do(dead: Peer) -> None:
    """With the commands to type, and no message on standard error."""
    config = dead.config()
    dead.database.with_name(f"{dead.database.name}-wal").write_bytes(b"of the old one")
    would = gymdbd("-c", config, "rebuild", "--dry-run")
    assert re.match(r"would put +127\.0\.0\.1:", would.stdout), would
    assert "\nwould rename  a leftover: " in would.stdout
    assert "What is left" not in would.stdout
    done = gymdbd("-c", config, "rebuild")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(rf"put +127\.0\.0\.1:{re.escape(str(dead.database))}\n", done.stdout)
    assert "\nrenamed  a leftover: " in done.stdout
    assert f"sudo deploy/install.sh --database {dead.database} --archive DIR\n" in done.stdout
    assert done.stdout.endswith("4. here: gymdbd pull pull\n")


def test_a_database_that_is_there_is_refused_and_replaced_only_if_asked(peer: Peer) -> None:
    """The one that is there is saved over there, and the pull goes on."""
    peer.pull()
    pay(peer.database)
    there = query(peer.database, "SELECT * FROM accounts")
    code, result = rebuild(peer)
    assert (code, result["code"]) == (1, "place-taken")
    size = f"{peer.database.stat().st_size / 1024:.0f} KiB"
    told = f"127.0.0.1: there is a file at {peer.database} already ({size})"
    assert result["error"] == told
    assert "--replace" in result["hint"]
    assert query(peer.database, "SELECT * FROM accounts") == there
    code, result = rebuild(peer, "--replace")
    assert (code, query(result["saved"], "SELECT * FROM accounts")) == (0, there)
    assert ledger.check_copy(peer.database).problems == ()
    assert peer.pull().strategy == "digest"


def test_the_key_of_the_pulls_is_not_enough_and_another_is(
    tmp_path: Path, ssh_home: Path, dead: Peer
) -> None:
    """Restricted to pulls it puts nothing there; the message says what to type instead."""
    del ssh_home
    words = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-B", "-m", "gymdbd", "serve"]
    forced = shlex.join([*words, "--database", str(dead.database)])
    with SshServer(tmp_path / "restricting", forced_command=forced) as server:
        other = Peer(server, dead.database, dead.replica)
        code, result = rebuild(other)
        assert (code, result["code"]) == (1, "channel-refused"), result
        assert "may only pull" in result["error"]
        copy = f"ssh-copy-id -i KEY.pub -o PubkeyAuthentication=no -p {server.port} 127.0.0.1"
        assert copy in result["hint"]
        assert "--identity KEY" in result["hint"]
        assert not dead.database.exists()
        own = make_key(tmp_path / "own")
        server.authorize(own)
        code, result = rebuild(other, "--identity", own, "--user", getpass.getuser())
        assert (code, result["user"]) == (0, getpass.getuser())


def test_a_login_that_is_refused_says_which_key_to_make(tmp_path: Path, dead: Peer) -> None:
    """On a new machine no key is let in yet."""
    code, result = rebuild(dead, "--identity", make_key(tmp_path / "stranger"))
    assert (code, result["code"]) == (1, "authentication")
    assert f"ssh-copy-id -i KEY.pub -p {dead.server.port} 127.0.0.1" in result["hint"]
    assert not dead.database.exists()


@pytest.mark.parametrize("known", ["", "another"])
def test_a_host_key_is_never_accepted_by_itself(tmp_path: Path, dead: Peer, known: str) -> None:
    """A new machine has a new one, and so has whoever pretends to be it: a person compares."""
    hosts = tmp_path / "known"
    if known:
        blob = make_key(tmp_path / "other").with_suffix(".pub").read_text()
        hosts.write_text(f"[127.0.0.1]:{dead.server.port} {blob}")
    else:
        hosts.touch()
    before = hosts.read_text()
    code, result = rebuild(dead, ssh={"known_hosts": str(hosts)})
    assert (code, result["code"]) == (1, "host-key-changed" if known else "host-key-unknown")
    assert "ssh-keyscan" in result["hint"]
    assert ("ssh-keygen -R" in result["hint"]) == bool(known)
    assert (hosts.read_text(), dead.database.exists()) == (before, False)


def test_a_machine_with_a_new_name_is_named(dead: Peer) -> None:
    """All else is as the job has it."""
    config = dead.config(host="old-pi.invalid")
    code, result = gymdbd_json("-c", config, "rebuild", "--host", "127.0.0.1")
    assert (code, result["host"], dead.database.exists()) == (0, "127.0.0.1", True)


@pytest.fixture
def twice(peer: Peer) -> tuple[Peer, str]:
    """Give a machine that was pulled from twice and is dead, and the time of the first pull."""
    peer.pull()
    state = json.loads((peer.replica.parent / ".replica.db.pull.json").read_text())
    first = datetime.fromisoformat(state["pulled_at"])
    until(lambda: clock.Clock().now() - first > timedelta(seconds=1), "another second")
    pay(peer.database)
    peer.pull()
    lose(peer)
    return peer, first.isoformat()


def paid(database: Path) -> Any:
    """Return what the first account has paid."""
    return query(database, "SELECT paid FROM accounts WHERE id = 1")[0][0]


def test_a_former_state_is_put_there_by_its_time_or_its_name(twice: tuple[Peer, str]) -> None:
    """The replica is the newest state; older ones are in the archive of the pull."""
    peer, first = twice
    newest = paid(peer.replica)
    (saved,) = backups(peer.archive)
    for words, expected in (
        (["--at", "0s"], newest),
        (["--at", first], newest - 1),
        (["--backup", "latest"], newest - 1),
        (["--backup", saved.name], newest - 1),
        (["--backup", saved.stem.rpartition("_backup_")[2]], newest - 1),
        (["--backup", saved], newest - 1),
        (["--backup", saved.name, "--archive", peer.archive], newest - 1),
    ):
        code, result = rebuild(peer, *words)
        assert code == 0, result
        assert ("before_s" in result) == (words[0] == "--at")
        assert (paid(peer.database), result["source"] == str(peer.replica)) == (
            expected,
            expected == newest,
        )
        peer.database.unlink()
    code, result = rebuild(peer, "--at", "2001-01-01")
    assert (code, result["code"], peer.database.exists()) == (1, "backup-missing", False)
    code, result = rebuild(peer, "--at", "0s", "--backup", "latest")
    assert (code, result["code"]) == (2, "usage")


def test_the_replica_is_no_backup_of_what_was_put_there_and_is_kept(
    twice: tuple[Peer, str],
) -> None:
    """The next pull replaces it by the older state: it goes to the archive, or one is told."""
    peer, _ = twice
    newest = paid(peer.replica)
    _, result = rebuild(peer, "--backup", "latest", backup_before=False)
    assert [line for line in result["remarks"] if "keeps no copy" in line] != []
    peer.pull()
    assert newest in [paid(path) for path in backups(peer.archive)]
    assert paid(peer.replica) == newest - 1


def test_a_backup_goes_there_without_a_configuration(tmp_path: Path, dead: Peer) -> None:
    """From any archive; one that was made with its -wal as it was is put there whole."""
    source = ledger.create(tmp_path / "other.db")
    crash_after(source, "UPDATE totals SET paid = 4711")
    archive = tmp_path / "archive"
    made = gymdbd_json("backup", "--database", source, "--archive", archive, "--raw")[1]
    (tmp_path / "home" / ".ssh" / "config").write_text(dead.server.config_block("new-pi"))
    words = ["--backup", made["path"], "--host", "new-pi", "--remote-database", dead.database]
    code, result = gymdbd_json("rebuild", *words)
    assert code == 0, result
    assert query(dead.database, "SELECT paid FROM totals") == [(4711,)]
    assert [path.name for path in dead.database.parent.iterdir()] == [dead.database.name]


def _scribble(peer: Peer) -> None:
    with closing(sqlite3.connect(peer.replica)) as here:
        here.execute("CREATE TABLE scribble AS SELECT 1")
        here.commit()


def _rot(peer: Peer) -> None:
    facts = peer.replica.stat()
    with peer.replica.open("r+b") as file:
        file.seek(3000)
        file.write(bytes(200))
    os.utime(peer.replica, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _doubt(peer: Peer) -> None:
    path = peer.replica.parent / f".{peer.replica.name}.pull.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "suspicious": ["payments had 400 rows and has 0"]}))


@pytest.mark.parametrize(
    ("harm", "code", "said"),
    [
        (_scribble, "usage", "is not what the last pull left"),
        (_rot, "verification-failed", "is not the snapshot it was made from"),
        (_doubt, "suspicious", "payments had 400 rows"),
        (lambda peer: peer.replica.unlink(), "backup-missing", "there is no replica"),
    ],
)
def test_a_replica_that_is_not_proven_is_not_put_there(
    dead: Peer, harm: Callable[[Peer], None], code: str, said: str
) -> None:
    """It may hold what nobody wants; the message names what to put there instead."""
    harm(dead)
    exit_code, result = rebuild(dead)
    assert (exit_code != 0, result["code"]) == (True, code), result
    assert said in result["error"]
    assert "gymdbd rebuild --backup latest" in result["hint"]
    assert not list(dead.database.parent.iterdir())


def test_an_application_that_was_started_too_early_costs_nothing(peer: Peer) -> None:
    """Its empty database has been pulled: the good state is in the archive, and goes back."""
    peer.pull()
    had = query(peer.replica, "SELECT * FROM totals")
    lose(peer)
    with closing(sqlite3.connect(ledger.create(peer.database))) as connection:
        connection.execute("DELETE FROM payments")
        connection.commit()
    with pytest.raises(SuspiciousError):
        peer.pull()
    code, result = rebuild(peer)
    assert (code, result["code"]) == (1, "suspicious")
    code, result = rebuild(peer, "--backup", "latest", "--replace")
    assert (code, query(peer.database, "SELECT * FROM totals")) == (0, had), result
    assert query(result["saved"], "SELECT count(*) FROM payments") == [(0,)]
    pulled = peer.pull()
    assert (pulled.state, query(peer.replica, "SELECT * FROM totals")) == ("ok", had)


def slow(folder: Path) -> dict[str, Any]:
    """Return the ssh: section of a machine whose disk takes two seconds for a flush."""
    delay = "inject=fsync,fdatasync:delay_enter=2000000:when=1"
    words = [require("strace"), "-f", "-o", "/dev/null", "-e", delay, sys.executable]
    (folder / "slow").write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    (folder / "slow").chmod(0o755)
    return {"python": str(folder / "slow")}


@pytest.mark.parametrize("end", samples.sample(["SIGINT", "SIGKILL", "cut"], "ends of a rebuild"))
def test_an_end_on_the_way_leaves_nothing_over_there(tmp_path: Path, dead: Peer, end: str) -> None:
    """Ctrl-C, a kill, or the line: what arrived is removed, and the next run brings it whole."""
    folder, hosts = dead.database.parent, tmp_path / "known"
    with Relay(dead.server.port) as relay:
        known = dead.server.known_hosts.read_text()
        hosts.write_text(known.replace(f":{dead.server.port} ", f":{relay.port} "))
        way = {**slow(tmp_path), "port": relay.port, "known_hosts": str(hosts)}
        words = [*GYMDBD, "-c", str(dead.config(ssh=way)), "rebuild", "--json"]
        with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE) as process:
            await_arrival(folder, dead.replica.stat().st_size)
            if end == "cut":
                relay.cut()
            else:
                process.send_signal(signal.Signals[end])
            out, _ = process.communicate(timeout=30)
        if end != "SIGKILL":
            code = {"SIGINT": "stopped", "cut": "connection-lost"}[end]
            assert json.loads(out)["code"] == code
    until(lambda: not list(folder.iterdir()), "an empty folder over there")
    assert rebuild(dead)[0] == 0
    assert ledger.check_copy(dead.database).problems == ()

"""Three copies by one command: over there, the replica, and a copy of it, or a word of why not."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config.parts import Keep
from tests.support import ledger
from tests.support.command import GYMDBD, ROOT, environment, gymdbd, gymdbd_json
from tests.support.databases import backups
from tests.support.jobs import write_config
from tests.support.pulling import Peer, snapshot_of
from tests.support.relay import Relay
from tests.support.sshd import SshServer
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pi:
    """A machine with a database, a job that backs it up, and gymdbd on the path of a session."""

    def __init__(self, folder: Path, **server: Any) -> None:
        self.home = folder / "there"
        self.programs = folder / "programs"
        for one in (self.home, self.programs, folder / "here"):
            one.mkdir()
        self.database = ledger.create(self.home / "gym 회원's.db")
        self.archive = self.home / "archive"
        self.archive.mkdir()
        self.configure(database=str(self.database))
        variables = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "GYMDBD_CONFIG": str(self.home / "config.yaml"),
        }
        server = {"environment": variables, **server}
        self.server = SshServer(folder / "sshd", **server)
        self.peer = Peer(self.server, self.database, folder / "here" / "replica.db")

    def configure(self, **changes: Any) -> None:
        """Write the configuration over there, with its one job."""
        job = {"kind": "backup", "every": "1d", "archive": str(self.archive), **changes}
        write_config(self.home, {"nightly": job})

    def install(self, line: str = "") -> Path:
        """Put a gymdbd on the path over there, which does `line` first."""
        program = self.programs / "gymdbd"
        start = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.join(GYMDBD)}"
        program.write_text(f'#!/bin/sh\n{line}\n{start} "$@"\n')
        program.chmod(0o755)
        return program

    def emergency(self, *words: object, **changes: Any) -> tuple[int, dict[str, Any]]:
        """Run it here; return its exit code and its JSON."""
        return gymdbd_json("-c", self.peer.config(**changes), "emergency", *words)


@pytest.fixture
def pi(tmp_path: Path, ssh_home: Path) -> Iterator[Pi]:
    """Give a machine that can be reached, without an installed gymdbd."""
    del ssh_home
    machine = Pi(tmp_path)
    with machine.server:
        yield machine


def states(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the name and the state of each step."""
    return [(one["name"], one["state"]) for one in result["steps"]]


def places(result: dict[str, Any]) -> list[str]:
    """Return the safe copies as a person reads them."""
    return [f"{one['host'] or ''}:{one['path']}" for one in result["safe_copies"]]


def members(path: str) -> int:
    """Count the rows that a copy holds, as anybody would."""
    with closing(sqlite3.connect(f"{Path(path).as_uri()}?immutable=1", uri=True)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return sum(copy.execute(f'SELECT count(*) FROM "{one}"').fetchone()[0] for (one,) in tables)


def test_an_emergency_leaves_three_copies_and_says_where(pi: Pi) -> None:
    """Over there by its own job, the replica, and a file of its own in the archive here."""
    pi.install()
    code, result = pi.emergency()
    expected = [("backup there", "ok"), ("pull", "ok"), ("backup here", "ok")]
    assert (code, result["state"], states(result)) == (0, "ok", expected)
    (there,), (here,) = backups(pi.archive), backups(pi.peer.archive)
    assert places(result) == [f"127.0.0.1:{there}", f":{pi.peer.replica}", f":{here}"]
    rows = members(str(pi.database))
    assert [members(one["path"]) for one in result["safe_copies"]] == [rows] * 3
    assert here.stat().st_ino != pi.peer.replica.stat().st_ino
    listed = gymdbd_json("list", "--archive", pi.peer.archive)[1]["backups"]
    assert [one["verdict"] for one in listed] == ["verified"]
    assert json.loads(here.with_name(here.name + ".json").read_text())["host"] == "127.0.0.1"


def test_the_copy_here_stays_as_it_is_when_somebody_writes_to_the_replica(pi: Pi) -> None:
    """It is no second name of the replica."""
    _, result = pi.emergency()
    copy = Path(result["safe_copies"][-1]["path"])
    before = copy.read_bytes()
    with closing(sqlite3.connect(pi.peer.replica)) as here:
        here.execute("PRAGMA journal_mode = DELETE")
        here.execute("CREATE TABLE scribble AS SELECT 1")
        here.commit()
    assert copy.read_bytes() == before
    assert gymdbd("verify", copy).returncode == 0


def test_the_copy_here_outlives_the_pulls_that_follow(pi: Pi) -> None:
    """Each saves the replica before it and prunes; a pin keeps the emergency's copy."""
    copy = Path(pi.emergency()[1]["safe_copies"][-1]["path"])
    for _ in range(3):
        ledger.add_payments(pi.database, 5)
        pi.peer.pull(keep=Keep(count=1))
    assert len(backups(pi.peer.archive)) == 2
    assert copy in backups(pi.peer.archive)
    assert gymdbd("-c", pi.peer.config(), "unkeep", copy.name).returncode == 0


def test_a_person_is_told_each_step_and_at_last_where_the_copies_are(pi: Pi) -> None:
    """Steps on standard error, the places on standard output; names are shown as they are."""
    pi.install()
    done = gymdbd("-c", pi.peer.config(), "emergency")
    assert done.returncode == 0
    told = [line.split(":")[0].split("  ")[0] for line in done.stderr.splitlines()]
    assert told == ["backup there", "pull", "backup here"]
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"safe copies   127.0.0.1:{pi.archive}/gym 회원's_backup_")
    assert f", {pi.peer.replica}, {pi.peer.archive}/replica_backup_" in line


def test_an_emergency_again_makes_no_copy_here_a_second_time(pi: Pi) -> None:
    """Unless the copy is no longer what it was: then another is made."""
    pi.install()
    first = pi.emergency()[1]
    code, again = pi.emergency()
    # By its pages, where the main file over there was written a moment before.
    expected = [("backup there", "ok"), ("pull", "unchanged"), ("backup here", "unchanged")]
    assert (code, states(again)) == (0, expected)
    assert again["safe_copies"][1:] == first["safe_copies"][1:]
    assert (len(backups(pi.archive)), len(backups(pi.peer.archive))) == (2, 1)
    (copy,) = backups(pi.peer.archive)
    rotten = bytearray(copy.read_bytes())
    rotten[-1] ^= 1
    copy.write_bytes(rotten)
    assert states(pi.emergency()[1])[-1] == ("backup here", "ok")
    assert len(backups(pi.peer.archive)) == 2


def test_a_replica_that_has_gone_bad_is_neither_copied_nor_called_safe(pi: Pi) -> None:
    """Nobody wrote to it, so the pull leaves it; but it is read before it is relied upon."""
    # A main file that was written a moment ago may have been written since: its pages are compared.
    until(lambda: ("pull", "unchanged") in states(pi.emergency()[1]), "a pull finds nothing new")
    replica = pi.peer.replica
    before, copies = replica.stat(), backups(pi.peer.archive)
    data = bytearray(replica.read_bytes())
    # A byte in the middle of a note: no integrity check of SQLite can see it.
    at = data.index(_note(replica)) + 50
    data[at] ^= 1
    replica.write_bytes(data)
    os.utime(replica, ns=(before.st_atime_ns, before.st_mtime_ns))
    exit_code, answer = pi.emergency()
    assert (exit_code, answer["code"]) == (1, "verification-failed")
    assert str(replica) not in [one["path"] for one in answer["safe_copies"]]
    assert backups(pi.peer.archive) == copies


def _note(path: Path) -> bytes:
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return bytes(connection.execute("SELECT note FROM payments LIMIT 1").fetchone()[0])


def test_a_machine_without_gymdbd_is_pulled_from_all_the_same(pi: Pi) -> None:
    """What is not done is said, and nothing is written over there."""
    before = snapshot_of(pi.home)
    code, result = pi.emergency()
    expected = [("backup there", "skipped"), ("pull", "ok"), ("backup here", "ok")]
    assert (code, states(result)) == (0, expected)
    text = result["steps"][0]["text"]
    assert "has no gymdbd that this account can run" in text
    assert "gets no backup" in text
    assert len(result["safe_copies"]) == 2
    after = snapshot_of(pi.home)
    # An empty one is what SQLite leaves beside a database that nobody has open.
    after.pop(f"{pi.database.name}-wal", None)
    assert after == before


def test_a_key_that_may_only_pull_skips_the_backup_there(tmp_path: Path, ssh_home: Path) -> None:
    """It is told apart from a machine without gymdbd."""
    del ssh_home
    database = tmp_path / "there" / "gym 회원's.db"
    words = ["env", f"PYTHONPATH={ROOT}", *GYMDBD, "serve", "--database", str(database)]
    pi = Pi(tmp_path, forced_command=shlex.join(words))
    pi.install()
    with pi.server:
        code, result = pi.emergency()
    expected = [("backup there", "skipped"), ("pull", "ok"), ("backup here", "ok")]
    assert (code, states(result)) == (0, expected)
    assert "may only serve a pull there" in result["steps"][0]["text"]
    assert backups(pi.archive) == []


def test_a_database_that_no_job_over_there_backs_up_is_not_put_anywhere(pi: Pi) -> None:
    """No archive is guessed: the gymdbd there says why, and the pull goes on."""
    pi.install()
    pi.configure(database=str(pi.home / "other.db"))
    code, result = pi.emergency()
    assert (code, states(result)[0]) == (0, ("backup there", "skipped"))
    assert "no job of" in result["steps"][0]["text"]
    assert backups(pi.archive) == []
    assert not list(pi.home.rglob("*_backup_*"))


def test_the_gymdbd_over_there_may_be_named_and_its_shell_may_speak_first(pi: Pi) -> None:
    """Its path stands in the configuration; a greeting of a start-up file does no harm."""
    program = pi.install("echo 'Welcome to the {gym}'")
    moved = program.rename(pi.home / "my gymdbd")
    code, result = pi.emergency(ssh={"gymdbd": str(moved)})
    assert (code, states(result)[0]) == (0, ("backup there", "ok"))


@pytest.mark.parametrize(
    "line", ["echo 'Segmentation fault' >&2; exit 139", "echo '{'; exit 1", "yes; exit 1"]
)
def test_an_answer_that_is_none_fails_it_and_the_rest_is_done(pi: Pi, line: str) -> None:
    """Whatever it prints, and however much."""
    pi.install(line)
    code, result = pi.emergency()
    assert (code, result["code"], states(result)) == (
        1,
        "remote-command",
        [("backup there", "failed"), ("pull", "ok"), ("backup here", "ok")],
    )
    assert result["hint"]
    assert len(result["safe_copies"]) == 2


def test_a_backup_that_fails_over_there_is_told_with_the_reason(pi: Pi) -> None:
    """And tells how the database comes here all the same."""
    pi.install()
    pi.database.unlink()
    code, result = pi.emergency()
    assert (code, result["state"]) == (1, "failed")
    steps = [("backup there", "failed"), ("pull", "failed"), ("backup here", "skipped")]
    assert states(result) == steps
    assert "the backup on 127.0.0.1 failed: there is no database" in result["error"]
    assert "gymdbd pull" in result["hint"]
    assert result["safe_copies"] == []


def test_a_pull_that_fails_tells_what_was_achieved(pi: Pi) -> None:
    """The backup over there is made, named and safe; a later run goes on."""
    pi.install()
    code, result = pi.emergency(ssh={"python": "python-not-there"})
    assert (code, result["code"]) == (1, "command-missing")
    steps = [("backup there", "ok"), ("pull", "failed"), ("backup here", "skipped")]
    assert states(result) == steps
    (there,) = backups(pi.archive)
    assert places(result) == [f"127.0.0.1:{there}"]
    done = gymdbd("-c", pi.peer.config(ssh={"python": "python-not-there"}), "emergency")
    assert done.stdout.startswith("safe copies   127.0.0.1:")
    assert "python-not-there" in done.stderr
    assert pi.emergency()[0] == 0


def test_a_machine_that_is_down_has_no_safe_copies(pi: Pi) -> None:
    """The state is that of the run that could not reach it."""
    pi.server.stop()
    code, result = pi.emergency()
    assert (code, result["state"], result["safe_copies"]) == (1, "unreachable", [])


def test_a_suspicious_backup_over_there_does_not_stop_the_others(pi: Pi) -> None:
    """All is copied, and the exit code says that somebody must look."""
    pi.install()
    pi.emergency()
    with closing(sqlite3.connect(pi.database)) as application:
        (table,) = application.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1"
        ).fetchone()
        application.execute(f'DROP TABLE "{table}"')
    code, result = pi.emergency()
    assert (code, result["state"], result["code"]) == (1, "suspicious", "suspicious")
    expected = [("backup there", "suspicious"), ("pull", "suspicious"), ("backup here", "ok")]
    assert states(result) == expected
    assert f"table {table} is gone" in result["error"]
    assert len(result["safe_copies"]) == 3


def test_an_emergency_that_is_killed_leaves_the_next_one_nothing_but_work(pi: Pi) -> None:
    """Killed while the backup over there is made: no lock stays, and the next run does it all."""
    started, go = pi.home / "started", pi.home / "go"
    # It waits in the end for nothing, so that a failure here leaves no process behind.
    seen = f"[ -e {shlex.quote(str(go))} ]"
    turns = f"n=0; until {seen} || [ $n -gt 200 ]; do n=$((n + 1)); sleep 0.1; done"
    pi.install(f"touch {shlex.quote(str(started))}; {turns}")
    process = subprocess.Popen(
        [*GYMDBD, "-c", pi.peer.config(), "emergency"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(started.exists, "the backup over there begins")
    busy = pi.emergency()
    process.send_signal(signal.SIGKILL)
    process.wait()
    go.touch()
    assert (busy[0], busy[1]["state"]) == (3, "busy")
    until(lambda: backups(pi.archive), "the backup over there is made all the same")
    code, result = pi.emergency()
    assert (code, len(result["safe_copies"])) == (0, 3)


def test_a_machine_that_dies_during_its_backup_is_not_waited_for(pi: Pi) -> None:
    """Where the connection stands and nothing answers any more, the stall timeout ends it."""
    started = pi.home / "started"
    pi.install(f"touch {shlex.quote(str(started))}; sleep 5; exit 1")
    with Relay(pi.server.port) as relay:
        alias = f"[127.0.0.1]:{pi.server.port}"
        changes = {"port": relay.port, "host_key_alias": alias, "stall_timeout": "1s"}
        changes |= {"connect_timeout": "3s", "auth_timeout": "3s"}
        command = [*GYMDBD, "-c", str(pi.peer.config(ssh=changes)), "emergency", "--json"]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
            until(started.exists, "the backup over there to begin")
            relay.stall()
            try:
                said, _ = process.communicate(timeout=20)
            finally:
                process.kill()
    answer = json.loads(said)
    assert (process.returncode, answer["code"], answer["safe_copies"]) == (1, "stalled", [])


def test_a_backup_over_there_may_be_silent_for_longer_than_the_stall_timeout(pi: Pi) -> None:
    """It is waited for as long as its machine answers."""
    pi.install("sleep 2.5")
    exit_code, answer = pi.emergency(ssh={"stall_timeout": "1s"})
    assert (exit_code, states(answer)[0]) == (0, ("backup there", "ok"))


def test_an_emergency_needs_no_configuration(pi: Pi, tmp_path: Path) -> None:
    """Host, database and replica will do; the host is found in ~/.ssh/config."""
    pi.install()
    ssh = Path(os.environ["HOME"]) / ".ssh" / "config"
    ssh.write_text(pi.server.config_block("raspberry-pi"))
    code, result = gymdbd_json(
        "emergency",
        *("--host", "raspberry-pi", "--remote-database", pi.database),
        *("--replica", tmp_path / "here" / "saved.db"),
    )
    assert (code, [one["host"] for one in result["safe_copies"]]) == (
        0,
        ["raspberry-pi", None, None],
    )


def test_a_backup_is_made_for_the_database_by_any_name_of_it(pi: Pi) -> None:
    """`backup --for` follows links, and refuses a database that no job backs up."""
    link = pi.home / "link.db"
    link.symlink_to(pi.database)
    config = pi.home / "config.yaml"
    code, result = gymdbd_json("-c", config, "backup", "--for", link)
    assert (code, Path(result["path"]).parent) == (0, pi.archive)
    code, result = gymdbd_json("-c", config, "backup", "--for", pi.home / "other.db")
    assert (code, result["code"]) == (2, "usage")
    code, result = gymdbd_json("-c", config, "backup", "nightly", "--for", link)
    assert (code, result["code"]) == (2, "usage")


def test_a_gymdbd_that_the_account_may_not_run_is_named(pi: Pi) -> None:
    """Unlike one that is not there it can be mended, so what the shell says is told."""
    pi.install().chmod(0o644)
    code, result = pi.emergency(ssh={"gymdbd": str(pi.programs / "gymdbd")})
    assert (code, states(result)[0]) == (0, ("backup there", "skipped"))
    assert "Permission denied" in result["steps"][0]["text"]

"""Whoever holds a restricted key, over a real sshd: the application goes on, and so do pulls."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from gymdbd.remote import greeting
from gymdbd.source import protocol
from gymdbd.source.errors import ProtocolError, SourceMovedError, UnreachableError
from tests.support.application import application
from tests.support.command import ROOT, EventLog
from tests.support.engine import open_app
from tests.support.pulling import Peer
from tests.support.sshd import SshServer, run_tool
from tests.support.sshd import ssh_home as ssh_home  # noqa: PLC0414 - a fixture
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.jobs.pull.result import PullResult

    Place = Callable[..., contextlib.AbstractContextManager[Peer]]

_MB = 1024 * 1024
_WRITER = """
import sqlite3, sys, time
app = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=3)
while True:
    app.execute("UPDATE counter SET n = n + 1")
    time.sleep(float(sys.argv[2]))
"""


def make_large(path: Path, journal_mode: str, size: int) -> None:
    """Create a database of about `size` bytes that cannot be packed, with a counter."""
    with closing(open_app(path, journal_mode=journal_mode)) as app:
        app.execute("CREATE TABLE counter(n INT)")
        app.execute("INSERT INTO counter VALUES (0)")
        app.execute("CREATE TABLE photo(data BLOB)")
        app.execute("BEGIN")
        app.executemany(
            "INSERT INTO photo VALUES (randomblob(?))", [(50_000,)] * (size // 50_000 + 1)
        )
        app.execute("COMMIT")


@pytest.fixture
def place(tmp_path: Path, ssh_home: Path) -> Place:
    """Give what makes a database over there and lets in a key that is bound to it."""
    del ssh_home

    @contextlib.contextmanager
    def make(*flags: str, journal_mode: str = "wal", size: int = 4 * _MB) -> Iterator[Peer]:
        (tmp_path / "there").mkdir()
        (tmp_path / "here").mkdir()
        database = tmp_path / "there" / "gym.db"
        make_large(database, journal_mode, size)
        words = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-B", "-m", "gymdbd", "serve"]
        command = shlex.join([*words, "--database", str(database), *flags])
        with SshServer(tmp_path / "sshd", forced_command=command) as server:
            yield Peer(server, database, tmp_path / "here" / "replica.db")

    return make


@dataclass
class Holder:
    """A holder of the key who speaks the protocol by himself."""

    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    channel: protocol.Channel

    def greet(self) -> dict[str, Any]:
        """Exchange greetings as a client does; return the server's."""
        self.channel.send_preamble()
        greeting.expect_server(self.channel)
        return self.channel.receive_json(protocol.HELLO)

    def ask(self, op: str, **details: Any) -> None:
        """Send a request."""
        self.channel.send_json(protocol.REQUEST, {"op": op, "codec": "raw", **details})
        self.channel.flush()

    def read_to_the_end(self) -> None:
        """Take the answer to a request, whatever it consists of."""
        kinds = (protocol.PAGES, protocol.DIGESTS, protocol.RESULT, protocol.END)
        while self.channel.receive(*kinds)[0] in kinds[:2]:
            pass

    def is_gone(self) -> bool:
        """Return whether the other side has ended the session."""
        return self.process.poll() is not None


@contextlib.contextmanager
def holder(peer: Peer) -> Iterator[Holder]:
    """Log in with the key, by OpenSSH's own client."""
    server = peer.server
    options = [
        *("-F", "none", "-i", str(server.user_key), "-p", str(server.port)),
        *("-o", f"UserKnownHostsFile={server.known_hosts}", "-o", "IdentitiesOnly=yes"),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(["ssh", *options, "127.0.0.1"], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Holder(process, process.stdin, protocol.Channel(process.stdout, process.stdin))
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                process.stdin.close()


@contextlib.contextmanager
def writing(database: Path, pause_s: float) -> Iterator[Callable[[], int]]:
    """Let a process commit all the time; give what returns how often it has."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, database, str(pause_s)]) as process:

        def commits() -> int:
            assert process.poll() is None, "the application could not commit"
            with closing(sqlite3.connect(database, timeout=10)) as connection:
                return int(connection.execute("SELECT n FROM counter").fetchone()[0])

        try:
            until(commits, "the first commit")
            yield commits
        finally:
            process.kill()


def photos(path: Path) -> list[Any]:
    """Return all of the content that nobody writes."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT data FROM photo ORDER BY rowid").fetchall()


def test_a_snapshot_ends_although_its_holder_takes_a_byte_a_while(place: Place) -> None:
    """The WAL can be reset while he is connected, in the middle of a page; then he is told."""
    with place("--max-snapshot", "1s") as peer, holder(peer) as attacker:
        attacker.greet()
        attacker.ask("full")
        taken = attacker.process.stdout.read(1) if attacker.process.stdout else b""
        with application(peer.database) as app:
            assert app.run("UPDATE counter SET n = 1") == "[]"
            until(
                lambda: app.run("PRAGMA wal_checkpoint(TRUNCATE)") == "[(0, 0, 0)]",
                "a checkpoint that no reader hinders",
            )
        assert not attacker.is_gone()
        attacker.channel.unread(taken)
        with pytest.raises(SourceMovedError, match="was ended before all of it was fetched"):
            attacker.read_to_the_end()


@pytest.mark.parametrize("begins", ["greeting", "request"])
def test_a_message_that_comes_byte_by_byte_holds_nothing(place: Place, begins: str) -> None:
    """Each byte is in time, and the whole is not: the session is ended."""
    with place("--stall-timeout", "1s") as peer, holder(peer) as attacker:
        greeting.expect_server(attacker.channel)
        if begins == "request":
            attacker.channel.send_preamble()
            attacker.channel.receive_json(protocol.HELLO)
        message = protocol.MAGIC[:7] if begins == "greeting" else b"\x02\0\0\0\xff\xff" + b"[" * 999
        sent = iter(message)
        last = time.monotonic()

        def is_ended() -> bool:
            nonlocal last
            if time.monotonic() > last + 0.4 and (letter := next(sent, None)) is not None:
                last = time.monotonic()
                with contextlib.suppress(OSError):
                    attacker.stdin.write(bytes([letter]))
                    attacker.stdin.flush()
            return attacker.is_gone()

        until(is_ended, "the end of a session that brings a byte every now and then", within_s=8)
        assert next(sent, None) is not None or begins == "greeting"


@pytest.mark.parametrize("does", ["nothing", "takes nothing"])
def test_without_a_wal_the_application_commits_while_a_holder_dawdles(
    place: Place, does: str
) -> None:
    """Nothing is locked while he is waited for; what he has then is known to be of no use."""
    with place(journal_mode="delete", size=20 * _MB) as peer, holder(peer) as attacker:
        attacker.greet()
        if does != "nothing":
            attacker.ask("full")
            assert attacker.process.stdout
            attacker.channel.unread(attacker.process.stdout.read(1))
        with application(peer.database) as app:
            assert app.run("UPDATE counter SET n = 1") == "[]"
        if does == "nothing":
            attacker.ask("full")
        with pytest.raises(SourceMovedError, match="it has no WAL"):
            attacker.read_to_the_end()


def test_without_a_wal_a_database_that_is_always_written_is_given_up_and_says_why(
    place: Place,
) -> None:
    """The application goes on throughout; as soon as it pauses, a pull takes up what arrived."""
    with place(journal_mode="delete", size=24 * _MB) as peer:
        with writing(peer.database, 0.01) as commits:
            code, result = peer.pull_by_command()
            before = commits()
            assert (code, result["code"]) == (1, "source-moved"), result
            assert "during each of 5 attempts" in result["error"]
            assert "--method scp" in result["hint"]
            assert "journal_mode=WAL" in result["hint"]
            until(lambda: commits() > before, "a commit after the pull")
        assert peer.pull().pages_total
        assert photos(peer.replica) == photos(peer.database)


def test_without_a_wal_a_commit_while_pages_are_fetched_makes_the_pull_begin_again(
    place: Place,
) -> None:
    """The commit does not wait, and what has arrived is compared, not fetched again."""
    log = EventLog()
    with place(journal_mode="delete", size=24 * _MB) as peer, application(peer.database) as app:
        done: list[str] = []

        def commit_once() -> None:
            if not done and peer.partial.exists() and peer.partial.stat().st_size > 4 * _MB:
                done.append(app.run("UPDATE counter SET n = 77"))

        result = peer.pull(log=log, check=commit_once)
        assert done == ["[]"]
        assert [event for _, event, _ in log.events].count("pull goes on") == 1
        assert (result.strategy, photos(peer.replica)) == ("digest", photos(peer.database))
        with closing(sqlite3.connect(peer.replica)) as replica:
            assert replica.execute("SELECT n FROM counter").fetchall() == [(77,)]


def slow_pull(peer: Peer, log: EventLog) -> PullResult:
    """Pull over a line that takes its time for each message with pages."""
    arrived = 0

    def wait() -> None:
        nonlocal arrived
        now = peer.partial.stat().st_mtime_ns if peer.partial.exists() else 0
        if now != arrived:
            # What a slow line is, and not a wait for anything.
            time.sleep(0.1)
        arrived = now

    return peer.pull(log=log, check=wait)


def test_a_slow_pull_ends_well_by_several_snapshots(place: Place) -> None:
    """None is longer than its limit; what has arrived is not fetched again."""
    log = EventLog()
    with place("--max-snapshot", "2s", size=16 * _MB) as peer:
        with writing(peer.database, 0.05) as commits:
            result = slow_pull(peer, log)
            before = commits()
            until(lambda: commits() > before, "a commit after the pull")
        assert photos(peer.replica) == photos(peer.database)
    assert result.strategy == "digest"
    assert result.bytes_received < 1.5 * 16 * _MB
    assert "pull goes on" in [event for _, event, _ in log.events]


def test_a_slow_pull_without_a_wal_ends_well_while_nobody_writes(place: Place) -> None:
    """However long it takes, the database is locked only while pages are read."""
    with place("--max-snapshot", "1s", journal_mode="delete", size=16 * _MB) as peer:
        assert slow_pull(peer, EventLog()).strategy == "full"
        assert photos(peer.replica) == photos(peer.database)


def test_what_costs_much_is_answered_once_for_a_snapshot(place: Place) -> None:
    """A second time is no request that a client of ours sends."""
    with place() as peer:
        for op in ("rows", "full", "digests"):
            with holder(peer) as attacker:
                attacker.greet()
                attacker.ask(op)
                attacker.read_to_the_end()
                attacker.ask(op)
                with pytest.raises(ProtocolError, match="answered before"):
                    attacker.read_to_the_end()


def compare_all(peer: Peer) -> None:
    """Have all pages read and hashed by 22 bytes, more or less."""
    with holder(peer) as attacker:
        attacker.greet()
        attacker.ask("digests")
        attacker.read_to_the_end()


def test_reading_all_is_refused_after_some_times(place: Place) -> None:
    """Whatever session asks; what costs little goes on, and pulls say when they can be tried."""
    with place("--full-reads", "1", size=48 * _MB) as peer:
        peer.pull()
        with pytest.raises(UnreachableError, match="1 times of late"):
            compare_all(peer)
        peer.replica.unlink()
        code, result = peer.pull_by_command()
        assert (code, result["state"]) == (1, "unreachable")
        assert "an hour at most" in result["hint"]
        assert peer.pull_by_command("--info-only")[0] == 0


def test_frequent_pulls_of_a_busy_database_are_never_refused(place: Place) -> None:
    """Each compares all pages, because the application has checkpointed; twelve within seconds."""
    taken = []
    with place(size=_MB // 8) as peer:
        for turn in range(12):
            with closing(sqlite3.connect(peer.database)) as app:
                app.execute("UPDATE counter SET n = ?", (turn,))
                app.commit()
                # It waits until the session before has ended.
                app.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            taken.append(peer.pull().strategy)

    assert taken == ["full", *["digest"] * 11]


def test_a_few_sessions_are_served_at_a_time(place: Place) -> None:
    """Others are told so at once; one that ends makes room."""
    with place("--max-sessions", "2") as peer:
        with holder(peer) as first, holder(peer) as second:
            first.greet()
            second.greet()
            with holder(peer) as third, pytest.raises(UnreachableError, match="2 sessions"):
                third.greet()
            code, result = peer.pull_by_command()
            assert (code, result["state"]) == (1, "unreachable")
            assert "sessions" in result["error"]

        def pulls() -> bool:
            with contextlib.suppress(UnreachableError):
                return bool(peer.pull().strategy)
            return False

        until(pulls, "a pull once the sessions have ended")


def test_a_holder_is_told_nothing_of_the_machine(place: Place) -> None:
    """No folder, no process and no name of the host is in the greeting or in the facts."""
    with place() as peer, application(peer.database) as app, holder(peer) as attacker:
        app.run("SELECT n FROM counter")
        told = json.dumps(attacker.greet())
        attacker.ask("info")
        facts = attacker.channel.receive_json(protocol.RESULT)
        told += json.dumps(facts)
        assert facts["database"] == "gym.db"
        for secret in (str(peer.database.parent), os.uname().nodename, "pid", str(app.pid)):
            assert secret not in told
        code, shown = peer.pull_by_command("--info-only")
        assert (code, shown["host"], shown["database"]) == (0, "127.0.0.1", str(peer.database))


def test_a_lock_that_hinders_names_nobody_to_a_holder(place: Place) -> None:
    """The process that has it is named on its own machine only."""
    with place(journal_mode="delete") as peer, application(peer.database) as app:
        app.run("PRAGMA locking_mode=EXCLUSIVE")
        app.run("UPDATE counter SET n = 1")
        code, result = peer.pull_by_command()
        assert (code, result["code"]) == (1, "source-locked")
        assert str(app.pid) not in result["error"] + result["hint"]


@pytest.mark.parametrize(("mode", "disk"), [("wal", "idle"), ("delete", "best-effort: prio 7")])
def test_a_session_lets_all_others_go_first(place: Place, mode: str, disk: str) -> None:
    """Its processor time and its disk have the lowest priority that keeps nobody waiting."""
    with place(journal_mode=mode) as peer, holder(peer) as attacker:
        attacker.greet()
        words = os.fsencode(f"serve\0--database\0{peer.database}")
        (pid,) = (
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if words in _command_line(folder) and not _command_line(folder).startswith(b"sshd")
        )
        assert os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0) > 0
        assert run_tool("ionice", "-p", str(pid)).strip() == disk


def _command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def test_an_old_client_that_names_no_database_is_served(place: Place) -> None:
    """Nothing is asked of it that 0.1 did not say."""
    with place() as peer:
        with holder(peer) as client:
            client.greet()
            client.ask("rows")
            assert client.channel.receive_json(protocol.RESULT)["tables"]["counter"] == 1
        moved = dataclasses.replace(peer, database=peer.database.with_name("other.db"))
        assert moved.pull_by_command()[1]["code"] == "another-database"


def test_the_status_is_the_served_file_and_holds_no_snapshot(place: Place, tmp_path: Path) -> None:
    """Whatever path is asked for; the WAL can be reset at once, and nothing else is answered."""
    secret, file = tmp_path / "secret", tmp_path / "public.json"
    secret.write_text("secret")
    file.write_text('{"jobs": []}')
    with place("--status", str(file)) as peer, closing(open_app(peer.database)) as app:
        app.execute("PRAGMA busy_timeout=0")
        app.execute("UPDATE counter SET n = n + 1")
        with holder(peer) as other:
            assert other.greet()["status"] is True
            app.execute("UPDATE counter SET n = n + 1")
            truncated = "PRAGMA wal_checkpoint(TRUNCATE)"
            assert app.execute(truncated).fetchone()[0] == 1
            other.ask("status", path=str(secret))
            assert other.channel.receive_json(protocol.RESULT)["text"] == '{"jobs": []}'
            assert app.execute(truncated).fetchone()[0] == 0
            other.ask("rows")
            with pytest.raises(ProtocolError, match="unknown request"):
                other.read_to_the_end()


def test_a_key_without_a_status_reads_no_file(place: Place, tmp_path: Path) -> None:
    """The forced commands of before name none."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with place() as peer, holder(peer) as other:
        assert other.greet()["status"] is False
        other.ask("status", path=str(secret))
        with pytest.raises(ProtocolError, match="unknown request"):
            other.read_to_the_end()

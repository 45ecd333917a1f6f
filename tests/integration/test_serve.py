"""A key that may do nothing but pull one database, and a serving side that fails."""

from __future__ import annotations

import dataclasses
import io
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd.remote import greeting
from gymdbd.remote.errors import ChannelRefusedError
from gymdbd.remote.ssh import ssh
from gymdbd.source import protocol, server
from gymdbd.source.errors import StalledError
from tests.support import ledger
from tests.support.command import GYMDBD, ROOT, gymdbd, gymdbd_json
from tests.support.engine import make_members, serving
from tests.support.pulling import Peer, identity, snapshot_of
from tests.support.sshd import SshServer, free_port
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin")
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
NOBODY_CAN_RUN = os.geteuid() == 0 and SYSTEM_PYTHON and shutil.which("setpriv")


@pytest.fixture
def restricted(tmp_path: Path, ssh_home: Path) -> Iterator[Peer]:
    """Give a server whose one key serves one database."""
    del ssh_home
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    database = ledger.create(tmp_path / "there" / "gym.db")
    words = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-B", "-m", "gymdbd", "serve"]
    command = shlex.join([*words, "--database", str(database)])
    with SshServer(tmp_path / "sshd", forced_command=command) as server:
        yield Peer(server, database, tmp_path / "here" / "replica.db")


@pytest.fixture
def peer(peer: Peer) -> Peer:
    """Give a ledger over there and a replica of it."""
    peer.pull()
    return peer


def run_ssh(server: SshServer, *words: str, environment: dict[str, str] | None = None) -> str:
    """Run OpenSSH's own client with the server's key; return everything that it gets."""
    options = [
        *("-F", "none", "-i", str(server.user_key), "-p", str(server.port)),
        *("-o", f"UserKnownHostsFile={server.known_hosts}", "-o", "IdentitiesOnly=yes"),
    ]
    done = subprocess.run(
        ["ssh", *options, *words],
        input=b"touch /tmp/gymdbd-was-here; id\n",
        capture_output=True,
        timeout=20,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    return (done.stdout + done.stderr).decode(errors="replace")


def test_a_restricted_key_pulls_its_database_and_no_other(restricted: Peer, tmp_path: Path) -> None:
    """A job for another database is told which one the key serves, and nothing arrives."""
    other = ledger.create(tmp_path / "there" / "other.db")
    for wanted in (other, other.with_name("none.db")):
        exit_code, result = restricted.pull_by_command(remote_database=str(wanted))
        assert (exit_code, result["code"]) == (1, "another-database")
        assert str(restricted.database) in result["error"]
        assert str(wanted) in result["error"]
        assert not restricted.replica.exists()
        code, told = gymdbd_json("-c", restricted.config(remote_database=str(wanted)), "check")
        assert code == 1
        assert "asks for" in str(told)
    link = restricted.database.with_name("link.db")
    link.symlink_to(restricted.database)
    assert restricted.pull(remote_database=str(link)).strategy == "full"
    assert ledger.check_copy(restricted.replica) == ledger.Totals(400, ())


def test_nothing_is_written_on_the_served_side(restricted: Peer) -> None:
    """Pulls of every kind leave each file over there as it was, to the byte and to the time."""
    application = ledger.connect(restricted.database, autocheckpoint=0)
    try:
        ledger.pay(application)
        before = snapshot_of(restricted.database.parent)
        restricted.pull()
        restricted.pull()
        restricted.replica.unlink()
        restricted.pull()
        assert snapshot_of(restricted.database.parent) == before
    finally:
        application.close()


def test_a_restricted_key_has_no_shell_and_runs_no_command(restricted: Peer) -> None:
    """A command, a shell, or a crafted SSH_ORIGINAL_COMMAND starts the serving side only."""
    secret = restricted.database.with_name("secret")
    secret.write_text("the word is 자전거")
    crafted = f"gymdbd serve --database {secret}; cat {secret} $(touch {secret}.2)"
    for words in ([f"cat {secret}"], [], [crafted], ["gymdbd", "serve", "--database", str(secret)]):
        said = run_ssh(restricted.server, "127.0.0.1", *words)
        assert "자전거" not in said
        assert "uid=" not in said
        assert "gymdbd" in said
    assert sorted(one.name for one in restricted.database.parent.glob("secret*")) == ["secret"]


def test_a_restricted_key_forwards_no_port(restricted: Peer) -> None:
    """No other machine is reached through the served one."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        said = run_ssh(restricted.server, "-W", f"127.0.0.1:{port}", "127.0.0.1")
        target.setblocking(False)
        with pytest.raises(BlockingIOError):
            target.accept()
    assert "prohibited" in said


def test_a_plain_copy_through_a_restricted_key_fails_at_once(restricted: Peer) -> None:
    """There is no SFTP behind such a key, and it is said without waiting for the stall timeout."""
    exit_code, result = restricted.pull_by_command("--method", "scp")
    assert (exit_code, result["code"]) == (1, "channel-refused")
    assert "command=" in result["hint"]
    with (
        ssh.connect(ssh.resolve(restricted.server.settings())) as connection,
        pytest.raises(ChannelRefusedError),
        connection.sftp(),
    ):
        pass


def _with_members(folder: Path) -> Path:
    """Make a database that is larger than what a pipe holds."""
    make_members(folder / "gym.db", 4000)
    return folder / "gym.db"


@pytest.mark.parametrize("silence", ["asks nothing", "takes nothing", "says nothing at all"])
def test_a_client_that_falls_silent_is_given_up_and_frees_the_wal(
    tmp_path: Path, silence: str
) -> None:
    """It is there and its end of the pipes is open: after the stall timeout no reader is left.

    A client that listens still is told why, by the code `stalled`.
    """
    database = _with_members(tmp_path)
    words = [*GYMDBD, "serve", "--database", str(database), "--stall-timeout", "1s"]
    with serving(words) as process, closing(sqlite3.connect(database, timeout=0)) as application:
        assert process.stdin is not None
        assert process.stdout is not None
        channel = protocol.Channel(process.stdout, process.stdin)
        if silence != "says nothing at all":
            channel.send_preamble()
            greeting.expect_server(channel)
            channel.receive_json(protocol.HELLO)
            application.execute("CREATE TABLE after_the_snapshot (word)")
            application.commit()
            assert application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 1
        if silence == "takes nothing":
            channel.send_json(protocol.REQUEST, {"op": "full", "codec": "raw"})
            channel.flush()
        assert process.wait(20) == 1
        assert application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        if silence == "asks nothing":
            with pytest.raises(StalledError, match="waited 1 s") as told:
                channel.receive()
            assert told.value.hint


def test_a_client_that_is_slow_is_waited_for(tmp_path: Path) -> None:
    """Each wait counts by itself: many that are short are no silence."""
    database = _with_members(tmp_path)
    words = [*GYMDBD, "serve", "--database", str(database), "--stall-timeout", "1s"]
    with serving(words) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        channel = protocol.Channel(process.stdout, process.stdin)
        channel.send_preamble()
        greeting.expect_server(channel)
        channel.receive_json(protocol.HELLO)
        for op in ("info", "rows", "tail"):
            asked = time.monotonic() + 0.6
            until(lambda: time.monotonic() > asked, "a client that thinks")  # noqa: B023
            channel.send_json(protocol.REQUEST, {"op": op})
            channel.flush()
            assert channel.receive_json(protocol.RESULT)


def remove(database: Path) -> None:
    """Take it away."""
    database.unlink()


def empty(database: Path) -> None:
    """Leave zero bytes of it."""
    database.write_bytes(b"")


def turn_into_folder(database: Path) -> None:
    """Put a folder there."""
    database.unlink()
    database.mkdir()


def fill_with_text(database: Path) -> None:
    """Put something else there."""
    database.write_text("no database " * 1000)


def damage(database: Path) -> None:
    """Write over pages in the middle of it."""
    data = bytearray(database.read_bytes())
    data[4 * 1024 : 12 * 1024] = b"\x7f" * (8 * 1024)
    database.write_bytes(data)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (remove, "source-missing"),
        (empty, "source-empty"),
        (turn_into_folder, "source-not-a-file"),
        (fill_with_text, "source-not-a-database"),
        (damage, "source-corrupt"),
    ],
)
def test_a_fault_of_the_remote_database_is_named(peer: Peer, fault: object, code: str) -> None:
    """What is wrong over there is told with a remedy, and the replica stays as it is."""
    before = identity(peer.replica)
    assert callable(fault)
    fault(peer.database)
    exit_code, result = peer.pull_by_command()
    assert (exit_code, result["state"], result["code"]) == (1, "failed", code)
    assert result["hint"]
    assert identity(peer.replica) == before
    assert list(peer.archive.glob("*_backup_*")) == []
    # What was a database at the last pull is saved as it is; of what is empty there is nothing.
    saved = list(peer.archive.glob("*.damaged/*.db"))
    assert len(saved) == (code in ("source-not-a-database", "source-corrupt"))


@pytest.mark.skipif(not NOBODY_CAN_RUN, reason="needs root, setpriv and a system python3")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_database_that_the_account_may_not_read_is_named(peer: Peer, closed: str) -> None:
    """Its session over there has another user's rights: an error of its own, with that uid."""
    # Folders of tests are their owner's only.
    place = Path(tempfile.mkdtemp(prefix="gymdbd-test-"))
    place.chmod(0o755)
    inner = place / "inner"
    inner.mkdir(mode=0o755)
    python = place / "python"
    python.write_text(f'#!/bin/sh\nexec {" ".join(AS_NOBODY)} {SYSTEM_PYTHON} "$@"\n')
    python.chmod(0o755)
    database = ledger.create(inner / "gym.db")
    ssh = {"python": str(python)}
    before = identity(peer.replica)
    other = dataclasses.replace(peer, database=database, replica=peer.replica.with_name("other.db"))
    application = ledger.connect(database, autocheckpoint=0)
    try:
        ledger.pay(application)
        assert other.pull(ssh=ssh).strategy == "full"
        (database if closed == "file" else inner).chmod(0o600)
        exit_code, result = peer.pull_by_command(ssh=ssh, remote_database=str(database))
    finally:
        application.close()
        shutil.rmtree(place)
    assert (exit_code, result["state"], result["code"]) == (1, "failed", "source-unreadable")
    assert "uid 65534" in result["error"] + result["hint"]
    assert identity(peer.replica) == before


def test_a_missing_python_over_there_is_named(peer: Peer) -> None:
    """A host without the configured Python is told apart from everything else."""
    exit_code, result = peer.pull_by_command(ssh={"python": "python-not-there"})
    assert (exit_code, result["code"]) == (1, "command-missing")
    assert "python-not-there" in result["error"]


def test_a_start_up_file_that_prints_is_named(peer: Peer, tmp_path: Path) -> None:
    """What a shell's start-up file prints into our stream is quoted, and how to stop it."""
    noisy = tmp_path / "noisy"
    noisy.write_text(f"#!/bin/sh\necho 'Welcome to the gym'\nexec {sys.executable} \"$@\"\n")
    noisy.chmod(0o755)
    exit_code, result = peer.pull_by_command(ssh={"python": str(noisy)})
    assert (exit_code, result["code"]) == (1, "shell-noise")
    assert "Welcome to the gym" in result["error"]


def test_a_peer_that_is_down_is_unreachable_and_late_before_it_is_failing(peer: Peer) -> None:
    """The run's state is `unreachable`; status says late at first, and failing by max_age."""
    down = {"port": free_port()}
    assert peer.pull_by_command()[0] == 0
    exit_code, result = peer.pull_by_command(ssh=down, max_age="1h")
    assert (exit_code, result["state"], result["code"]) == (1, "unreachable", "connect-refused")
    assert gymdbd("-c", peer.config(ssh=down, max_age="1h"), "status").returncode == 1
    short = peer.config(ssh=down, max_age="1s")
    until(lambda: gymdbd_json("-c", short, "status")[0] == 2, "the last success is too old")


def test_a_bug_of_the_serving_side_reaches_the_client_as_an_error(tmp_path: Path) -> None:
    """Whatever is raised; nothing but the protocol is printed."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ZeroDivisionError(size)

    make_members(tmp_path / "gym.db", 10)
    sent = io.BytesIO()

    code = server.serve(tmp_path / "gym.db", Broken(), sent)

    assert code == 1
    assert b"the serving side failed: ZeroDivisionError" in sent.getvalue()

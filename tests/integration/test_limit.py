"""A limit for what a pull receives: from a real SSH server, which waits as well."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from datetime import time as time_of_day
from typing import TYPE_CHECKING

import pytest

from gymdbd import words
from gymdbd.config.hours import Hours
from gymdbd.config.rate import LEAST, Limit
from gymdbd.jobs.pull.foresight import Foresight
from gymdbd.remote.pace import PIECE_BYTES, Pace
from gymdbd.remote.ssh import ssh
from tests.support import ledger
from tests.support.clocks import HandClock
from tests.support.command import EventLog, gymdbd, gymdbd_json
from tests.support.jobs import context
from tests.support.sshd import SshServer
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pulling import Peer

# It writes as fast as it can, and tells in a file how much it has written.
_WRITER = """
import os, sys
count = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
written = 0
while True:
    written += os.write(1, bytes(4096))
    os.pwrite(count, b"%020d" % written, 0)
"""
# What the buffers of sshd and of the system hold is far less.
_FAR_MORE = 3 * 1024 * 1024


def _bytes_written_until_blocked(ssh_server: SshServer, count: Path, pace: Pace) -> int:
    """Read one piece, and then return how much the other side could write before it waited."""

    def is_steady() -> bool:
        before = count.read_bytes()
        time.sleep(0.5)
        return before == count.read_bytes()

    goal = ssh.resolve(ssh_server.settings())
    with ssh.connect(goal, pace=pace) as connection:
        command = connection.run([sys.executable, "-c", _WRITER, str(count)])
        assert command.receive(PIECE_BYTES)
        until(is_steady, "the other side to wait")
        return int(count.read_bytes())


@pytest.mark.usefixtures("ssh_home")
def test_what_a_limit_does_not_let_in_stays_on_the_other_side(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    """Only a little is received ahead; without a limit it is a window of four MiB."""
    limited = _bytes_written_until_blocked(ssh_server, tmp_path / "limited", Pace(lambda: LEAST))
    free = _bytes_written_until_blocked(ssh_server, tmp_path / "free", Pace())
    assert limited < _FAR_MORE < free


@pytest.mark.usefixtures("ssh_home")
def test_our_own_waiting_is_no_stall_for_either_side(tmp_path: Path) -> None:
    """What keeps the connection alive is answered meanwhile, and no time limit of ours passes."""
    impatient = ["ClientAliveInterval 1", "ClientAliveCountMax 1"]
    with SshServer(tmp_path / "sshd", config=impatient) as server:
        pace = Pace(lambda: PIECE_BYTES // 3)
        goal = ssh.resolve(server.settings(stall_timeout_s=1.0))
        with ssh.connect(goal, pace=pace) as connection:
            command = connection.run(["head", "-c", str(PIECE_BYTES + 1), "/dev/zero"])
            command.end_within(1.0)
            received = 0
            while data := command.receive(PIECE_BYTES):
                received += len(data)
            assert received == PIECE_BYTES + 1
            assert pace.waited_s > 2


@pytest.mark.parametrize("method", ["query", "scp"])
def test_a_pull_keeps_its_limit_and_says_so(peer: Peer, method: str) -> None:
    """By either method; the replica is whole, and the answer tells the limit and the waiting."""
    with closing(sqlite3.connect(peer.database)) as connection, connection:
        connection.execute("CREATE TABLE noise AS SELECT randomblob(200000) AS data")
    exit_code, result = peer.pull_by_command(method=method, limit="128KiB/s")
    assert (exit_code, result["state"], result["limit"]) == (0, "ok", "128.0 KiB/s")
    # What arrived, less a piece and a quarter of a second's worth, which come at once.
    at_once = PIECE_BYTES + 128 * 1024 // 4
    assert result["waited_s"] * 128 * 1024 > (200_000 - at_once) / 2
    assert result["limit_warning"] is None
    assert ledger.check_copy(peer.replica).problems == ()


def test_one_pull_can_have_another_limit_or_none(peer: Peer) -> None:
    """--limit goes before the configuration, and `none` is no limit."""
    configuration = peer.config(limit="1KiB/s")
    exit_code, result = gymdbd_json("-c", configuration, "pull", "--limit", "none")
    assert (exit_code, result["strategy"]) == (0, "full")
    assert "limit" not in result
    # What has not changed is told in a kilobyte.
    exit_code, result = gymdbd_json("-c", configuration, "pull", "--limit", "2GiB/s")
    assert (exit_code, result["limit"]) == (0, "2.0 GiB/s")
    text = gymdbd("-c", configuration, "pull", "--limit", "1MiB/s").stdout
    assert "s for the limit" in text


def test_a_limit_without_its_unit_is_refused_on_the_command_line(peer: Peer) -> None:
    """It could be bits."""
    done = gymdbd("-c", peer.config(), "pull", "--limit", "500")
    assert done.returncode == 2
    assert "expected bytes a second with their unit, such as 500KiB/s (got 500)" in done.stderr
    assert "not in bits" in done.stderr
    assert not peer.replica.exists()


def test_a_snapshot_that_a_limit_may_hold_for_long_is_warned_of(peer: Peer) -> None:
    """In the log when the pull begins, and in the answer; it goes by the pages uncompressed."""
    peer.database.unlink()
    # Of large pages, which are all alike, next to nothing travels.
    ledger.create(peer.database, page_size=65536)
    with closing(sqlite3.connect(peer.database)) as connection, connection:
        connection.execute("CREATE TABLE zeros AS SELECT zeroblob(20000000) AS data")
    log = EventLog()
    result = peer.pull(log=log, limit=Limit(((None, 32 * 1024),)))
    assert result.limited is not None
    (warned,) = log.named("snapshot held for long")
    assert warned["reason"] == result.limited.limit_warning
    assert "32.0 KiB/s" in warned["reason"]
    assert "the WAL on 127.0.0.1 grows with what is written" in warned["reason"]
    assert warned["seconds"] > 600
    assert result.limited.limit_warning in result.remarks
    with closing(sqlite3.connect(peer.database)) as connection, connection:
        connection.execute("UPDATE accounts SET paid = paid + 1")
    log = EventLog()
    result = peer.pull(log=log, limit=Limit(((None, 32 * 1024),)))
    assert result.strategy in ("wal-tail", "digest")
    assert (log.named("snapshot held for long"), result.remarks) == ([], [])


@pytest.mark.parametrize(
    ("method", "size", "effect"),
    [
        ("query", 11 * 60, "grows with what is written"),
        ("query", 31 * 60, "127.0.0.1 ends it after half an hour, and the pull goes on"),
        ("scp", 11 * 60, "if the application writes in that time, the copy is refused"),
    ],
)
def test_the_warning_says_what_the_long_time_means(
    peer: Peer, method: str, size: int, effect: str
) -> None:
    """Once only, however often the size is told."""
    log = EventLog()
    job = peer.job(method=method, limit=Limit(((None, 1024),)))
    foresight = Foresight(job, context(log=log))
    foresight.expect(size * 1024)
    foresight.expect(size * 1024)
    (warned,) = log.named("snapshot held for long")
    assert effect in warned["reason"]
    assert words.counted(size // 60, "minute") in warned["reason"]


def test_a_limit_that_ends_within_ten_minutes_is_not_warned_of(peer: Peer) -> None:
    """What is left when its hours end comes at once."""
    log = EventLog()
    job = peer.job(limit=Limit(((Hours(time_of_day(8), time_of_day(22)), LEAST),)))
    clock = HandClock(shows=[datetime(2026, 11, 28, 21, 55, tzinfo=UTC)])
    Foresight(job, context(log=log, clock=clock)).expect(10**9)
    assert log.events == []


@pytest.mark.parametrize(
    ("limit", "state", "said"),
    [
        ("1GiB/s", "ok", "1.0 GiB/s: "),
        ("16KiB/s", "warning", "the WAL on 127.0.0.1 grows with what is written meanwhile"),
        ("1KiB/s", "warning", "timeout is 1h: a run is stopped before it has everything"),
    ],
)
def test_check_tells_how_long_a_first_pull_takes(
    peer: Peer, limit: str, state: str, said: str
) -> None:
    """If that is longer than ten minutes, or than a run may take, it is a warning."""
    with closing(sqlite3.connect(peer.database)) as connection, connection:
        connection.execute("CREATE TABLE zeros AS SELECT zeroblob(15000000) AS data")
    done = gymdbd("-c", peer.config(limit=limit), "check", "--json")
    (found,) = [
        found for found in json.loads(done.stdout)["checks"] if found["name"] == "pull limit"
    ]
    assert found["state"] == state
    assert said in found["message"]

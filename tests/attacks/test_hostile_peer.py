"""Another machine that means harm costs bounded time, memory and disk, and is blamed by name."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gymdbd.errors import TooLargeError, VerificationError
from gymdbd.jobs.context import Context
from gymdbd.jobs.peer import inspect
from gymdbd.source.errors import GymdbdError, ProtocolError, SourceCorruptError, StalledError
from tests.support import ledger
from tests.support.command import GYMDBD, ROOT, EventLog, environment, gymdbd
from tests.support.pulling import Peer, identity

MIB = 1024 * 1024
_SOON = timedelta(seconds=3)


def lying(folder: Path, mode: str, size: int = 4 * MIB) -> dict[str, Any]:
    """Return the ssh: section with a serving side that lies in this way."""
    script = folder / "liar"
    command = [sys.executable, f"{ROOT}/tests/attacks/lying_side.py", mode, str(size)]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    script.chmod(0o755)
    return {"python": str(script)}


def left_of(peer: Peer) -> list[str]:
    """Return what lies beside the replica that is not the replica, its state or a lock."""
    beside = (f".{peer.replica.name}.{end}.json" for end in ("pull", "peer"))
    known = {peer.replica.name, *beside, "backups"}
    return [
        path.name
        for path in peer.replica.parent.iterdir()
        if path.name not in known and not path.name.endswith(".lock")
    ]


def test_a_database_that_has_grown_beyond_reason_is_not_fetched(peer: Peer, tmp_path: Path) -> None:
    """Fifty megabytes of zeros travel as a few kilobytes; the last state shows that it is odd."""
    peer.pull()
    before = identity(peer.replica)
    with pytest.raises(TooLargeError, match="64 times") as caught:
        peer.pull(ssh=lying(tmp_path, "zeros", 58 * MIB))
    assert "max_size" in caught.value.hint
    assert identity(peer.replica) == before
    assert left_of(peer) == []


def test_max_size_of_the_job_holds_from_the_first_pull_on(peer: Peer, tmp_path: Path) -> None:
    """And it takes the place of the limit on growth."""
    with pytest.raises(TooLargeError, match=r"has 4\.0 MiB, and max_size is 3\.0 MiB"):
        peer.pull(ssh=lying(tmp_path, "zeros"), max_size=3 * MIB)
    assert left_of(peer) == []
    peer.pull(max_size=3 * MIB)
    with pytest.raises(SourceCorruptError):
        peer.pull(ssh=lying(tmp_path, "zeros", 17 * MIB), max_size=17 * MIB)


def test_a_plain_copy_is_not_begun_beyond_max_size(peer: Peer) -> None:
    """An SFTP server says how large its files are, and need not stop there."""
    with pytest.raises(TooLargeError, match="max_size"):
        peer.pull(method="scp", max_size=1000)
    assert left_of(peer) == []


def test_a_page_count_of_four_thousand_million_is_refused(peer: Peer, tmp_path: Path) -> None:
    """Before anything is allocated for it, whether or not there is a replica."""
    with pytest.raises(GymdbdError):
        peer.pull(ssh=lying(tmp_path, "zeros", (2**32 - 2) * 1024))
    peer.pull()
    with pytest.raises(TooLargeError):
        peer.pull(ssh=lying(tmp_path, "zeros", (2**32 - 2) * 1024))
    assert left_of(peer) == []


def test_what_is_no_database_is_blamed_on_the_sender_and_leaves_nothing(
    peer: Peer, tmp_path: Path
) -> None:
    """It has the digest that was announced, so that the disk here is not at fault."""
    peer.pull()
    before = identity(peer.replica)
    with pytest.raises(SourceCorruptError) as caught:
        peer.pull(ssh=lying(tmp_path, "zeros"))
    assert caught.value.message.startswith(f"{peer.database} on 127.0.0.1 is damaged: ")
    assert identity(peer.replica) == before
    assert left_of(peer) == []


def test_digests_that_never_agree_end_the_pull_and_leave_nothing(
    peer: Peer, tmp_path: Path
) -> None:
    """The next pull from an honest side compares every page, and is whole."""
    peer.pull()
    before = identity(peer.replica)
    with pytest.raises(VerificationError) as caught:
        peer.pull(ssh=lying(tmp_path, "random"))
    assert caught.value.hint.startswith("127.0.0.1 has not sent what it described")
    assert identity(peer.replica) == before
    assert left_of(peer) == []
    ledger.add_payments(peer.database, 10)
    assert peer.pull().strategy == "digest"


@pytest.mark.parametrize(("mode", "kind"), [("greeting", GymdbdError), ("drip", StalledError)])
def test_a_side_that_talks_without_saying_anything_is_given_up(
    peer: Peer, tmp_path: Path, mode: str, kind: type[GymdbdError]
) -> None:
    """Megabytes before the protocol, or one byte a second of an answer of sixteen megabytes."""
    with pytest.raises(kind):
        peer.pull(ssh={**lying(tmp_path, mode), "stall_timeout": _SOON})
    assert left_of(peer) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"page_size": "4096"},
        {"size_bytes": 10**400},
        {"newest_change": 1e300},
        {"newest_change": float("nan")},
        {"held_by": [["python"]]},
        {"wal_reset_bug": 1},
        {"sqlite": {"a": {"b": []}}},
    ],
)
def test_an_odd_description_is_an_error_of_the_other_side(
    peer: Peer, tmp_path: Path, odd: dict[str, Any]
) -> None:
    """Types, huge numbers, times outside the calendar, lists where a text is due."""
    with pytest.raises(ProtocolError, match="the other side's"):
        inspect(peer.job(ssh=lying(tmp_path, f"info-{odd!r}")), Context(log=EventLog()))


def test_a_side_that_tells_little_is_described_as_far_as_it_does(
    peer: Peer, tmp_path: Path
) -> None:
    """What is not told is left out, and keys that nobody knows are too."""
    told = {"sqlite": "3.40.1", "something": [[]] * 10_000}
    config = peer.config(ssh=lying(tmp_path, f"info-{told!r}"))
    done = gymdbd("-c", config, "pull", "--info-only")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:4] == ["sqlite", "3.40.1", "table", "rows"]


def _greet_without_end(listener: socket.socket, sent: list[int]) -> None:
    """Send the one who connects a line that has no end, and note how much of it was taken."""
    with contextlib.suppress(OSError), listener.accept()[0] as connection:
        while True:
            sent.append(connection.send(b"welcome " * 10_000))


def test_a_greeting_without_end_before_ssh_is_not_heard_out(peer: Peer) -> None:
    """No line ends, so that whoever waits for the end of the line keeps all of it in memory."""
    sent: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        speaker = threading.Thread(target=_greet_without_end, args=[listener, sent], daemon=True)
        speaker.start()
        config = peer.config(ssh={"port": listener.getsockname()[1], "connect_timeout": "2s"})
        words = ["prlimit", f"--as={400 * MIB}", "--", *GYMDBD, "-c", str(config), "pull"]
        done = subprocess.run(
            words, env=environment(), capture_output=True, text=True, check=False, timeout=60
        )
        speaker.join(timeout=20)
    assert (done.returncode, speaker.is_alive()) == (1, False)
    assert "welcome welcome" in done.stderr
    # What the buffers of two sockets take, aside.
    assert sum(sent) < 16 * MIB


def test_an_agent_that_never_answers_is_given_up(peer: Peer, tmp_path: Path) -> None:
    """Its socket takes the question; the key in the file is used instead."""
    path = f"/tmp/mute-{os.getpid()}"  # noqa: S108 - a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        try:
            alias = f"Host *\n    IdentityAgent {path}\n"
            (tmp_path / "home" / ".ssh" / "config").write_text(alias)
            peer.pull(ssh={"auth_timeout": _SOON})
        finally:
            Path(path).unlink()
    assert identity(peer.replica)

"""The Mac's key, as `gymdbd authorize` restricts it: pulls work, and nothing else does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.e2e.pi import DATABASE
from tests.support.databases import broken_promises, query

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.mac import Mac
    from tests.e2e.pi import Pi

_TRACE = "/home/pi/was-here"
_OTHER = "/home/pi/other.db"
# What somebody with the key may ask for instead of a pull.
_WISHES: tuple[tuple[str, ...], ...] = (
    (),
    ("id",),
    ("sh", "-c", f"touch {_TRACE}; id"),
    ("gymdbd", "serve", "--database", _OTHER),
    ("--help",),
    ("gymdbd", "--help"),
    ("--database", _OTHER),
    (f"; touch {_TRACE}; id",),
    (f"$(touch {_TRACE})`touch {_TRACE}`",),
    (f"\ntouch {_TRACE}\nid\n",),
    (f"' --database {_OTHER} '",),
    (f'" ; touch {_TRACE} #',),
    ("internal-sftp",),
    ("/usr/lib/openssh/sftp-server",),
    ("rsync", "--server", "--sender", ".", "/home/pi/"),
    ("scp", "-f", DATABASE),
)


@pytest.fixture
def known(pi: Pi, mac: Mac) -> Pi:
    """Give the Pi once it knows the Mac's key, and holds a second database."""
    pi.let_in(pi.restricted(mac.public_key))
    pi.machine.run("sqlite3", _OTHER, "CREATE TABLE IF NOT EXISTS secret (word)", user="pi")
    pi.machine.run("rm", "-f", _TRACE)
    return pi


def test_the_restricted_key_pulls_the_one_database(known: Pi, mac: Mac) -> None:
    """It does so twice, with a change in between, and gets no other one by naming it."""
    mac.configure()
    first = mac.pull()
    assert first["state"] == "ok", first
    assert broken_promises(mac.replica) == []
    known.rent()
    second = mac.pull()
    assert (second["state"], second["tables"]["rentals"]) == ("ok", 1)
    assert mac.pull()["state"] == "unchanged"
    mac.configure(remote_database=_OTHER)
    assert mac.pull()["code"] == "another-database"
    assert query(mac.replica, "SELECT count(*) FROM rentals") == [(1,)]
    names = query(mac.replica, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert ("secret",) not in names


def test_whatever_else_the_key_asks_for_is_answered_by_the_serving_side(
    known: Pi, mac: Mac
) -> None:
    """No shell reads the request: nothing of it happens, and none of it leaks anything."""
    for wish in _WISHES:
        done = mac.ssh("raspberry-pi", *(["--", *wish] if wish else []))
        assert "gymdbd" in done.stdout, (wish, done)
        for word in ("uid=", "secret", "usage:", "SQLite format 3"):
            assert word not in done.stdout + done.stderr, (wish, done)
    listing = known.machine.sh("ls -A /home/pi")
    assert "was-here" not in listing


def test_the_environment_cannot_be_used_against_the_command(known: Pi, mac: Mac) -> None:
    """What a client may send along changes nothing in what is served."""
    request = f'SetEnv="SSH_ORIGINAL_COMMAND=touch {_TRACE}"'
    for setting in (request, "SetEnv=PYTHONINSPECT=1", "SetEnv=LD_PRELOAD=/x.so"):
        done = mac.ssh("-o", setting, "raspberry-pi", f"touch {_TRACE}")
        assert "gymdbd" in done.stdout, (setting, done)
    assert "was-here" not in known.machine.sh("ls -A /home/pi")


@pytest.mark.usefixtures("known")
def test_the_key_opens_no_terminal_and_no_files_and_no_way_to_elsewhere(
    mac: Mac, tmp_path: Path
) -> None:
    """No pty, no SFTP, no forwarding in either direction."""
    assert "PTY allocation request failed" in mac.ssh("-tt", "raspberry-pi").stderr
    config = mac.home / ".ssh/config"
    fetched = tmp_path / "fetched"
    # The old protocol of scp and the serving side would wait for each other.
    for tool in (["sftp"], ["scp"], ["timeout", "3", "scp", "-O"]):
        got = mac.run(*tool, "-F", config, "-o", "BatchMode=yes", f"raspberry-pi:{_OTHER}", fetched)
        assert got.returncode != 0
        assert not fetched.exists()
    assert "administratively prohibited" in mac.ssh("-W", "127.0.0.1:22", "raspberry-pi").stderr
    refusing = ("-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "raspberry-pi")
    assert "remote port forwarding failed" in mac.ssh(*refusing).stderr


def test_the_key_cannot_write(known: Pi, mac: Mac) -> None:
    """The database and everything else of the account are as they were before the attempts."""
    state = f"sha256sum {DATABASE}; ls -laR --time-style=full-iso /home/pi/gym-controller/data"
    with closing(sqlite3.connect(mac.home / "evil.db")) as connection:
        connection.execute("CREATE TABLE evil (word)")
    before = known.machine.sh(state)
    config = mac.home / ".ssh/config"
    for tool in (["scp"], ["timeout", "3", "scp", "-O"]):
        sent = mac.run(*tool, "-F", config, mac.home / "evil.db", f"raspberry-pi:{DATABASE}")
        assert sent.returncode != 0
    mac.configure()
    assert mac.pull()["state"] == "ok"
    assert known.machine.sh(state) == before

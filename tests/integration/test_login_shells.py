"""The serving side is started by whatever shell the account over there has."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from gymdbd.remote import bootstrap
from gymdbd.remote.errors import CommandMissingError, RemoteCommandError, ShellNoiseError
from tests.support.command import require
from tests.support.databases import make_database
from tests.support.pulling import Peer
from tests.support.sshd import SshServer
from tests.support.zones import own_etc

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.source.errors import GymdbdError

pytestmark = [
    pytest.mark.usefixtures("ssh_home"),
    pytest.mark.skipif(os.geteuid() != 0, reason="an account with another shell needs root"),
]


def with_login_shell(shell: str, tmp_path: Path) -> Peer:
    """Return a machine on which the account has this login shell; its server is not started."""
    path = os.path.realpath(require(shell))
    etc, prefix = own_etc(tmp_path)
    lines = (etc / "passwd").read_text().splitlines()
    changed = [
        f"{line.rpartition(':')[0]}:{path}" if line.startswith("root:") else line for line in lines
    ]
    (etc / "passwd").write_text("\n".join(changed) + "\n")
    shutil.copy("/etc/shadow", etc)
    server = SshServer(tmp_path / "server", prefix=prefix)
    database = make_database(tmp_path / "gym.db")
    return Peer(server, database, tmp_path / "replica.db")


def rows(database: Path) -> list[tuple[int, str]]:
    """Read what is in the one table."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT * FROM t").fetchall()


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh", "fish", "csh", "tcsh"])
def test_every_login_shell_starts_the_serving_side(shell: str, tmp_path: Path) -> None:
    """Each of them reads the quotes of the command in its own way."""
    peer = with_login_shell(shell, tmp_path)
    with peer.server:
        peer.pull()
    assert rows(peer.replica) == rows(peer.database)


@pytest.mark.parametrize("shell", ["csh", "tcsh", "fish"])
def test_a_python_that_other_shells_do_not_find_is_named(shell: str, tmp_path: Path) -> None:
    """The shell csh ends with the status of any failure then, and says what it is."""
    peer = with_login_shell(shell, tmp_path)
    with peer.server, pytest.raises(CommandMissingError, match="cannot run python9"):
        peer.pull(ssh={"python": "python9"})


@pytest.mark.parametrize(
    ("shell", "error"), [("nologin", ShellNoiseError), ("false", RemoteCommandError)]
)
def test_a_login_shell_that_runs_nothing_is_told_of(
    shell: str, error: type[GymdbdError], tmp_path: Path
) -> None:
    """The account is let in, and that is all."""
    peer = with_login_shell(shell, tmp_path)
    with peer.server, pytest.raises(error) as caught:
        peer.pull()
    assert "login shell" in caught.value.hint


def test_the_command_is_one_line_without_what_shells_expand() -> None:
    """What stands between its single quotes is the same text for all of them."""
    words = bootstrap.arguments("python3")
    assert shutil.which(words[0])
    assert not set(words[-1]) & set("\n\r!'`")
    assert "\\" not in words[-1].replace("\\n", "")

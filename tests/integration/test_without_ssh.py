"""A machine without what speaks SSH, as 32-bit ARM may be: all but a pull works there."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.command import GYMDBD, environment_without
from tests.support.databases import make_database, query
from tests.support.jobs import write_config
from tests.support.pulling import Peer
from tests.support.sshd import SshServer

if TYPE_CHECKING:
    from pathlib import Path

_MISSING = ["paramiko", "cryptography", "nacl", "bcrypt", "cffi"]


@pytest.fixture
def without(tmp_path: Path) -> str:
    """Give the PYTHONPATH with which no Python finds what speaks SSH."""
    folder = tmp_path / "without"
    folder.mkdir()
    return environment_without(folder, *_MISSING)["PYTHONPATH"]


def _gymdbd(without: str, *words: object, key: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["env", f"PYTHONPATH={without}", *GYMDBD, *map(str, words)],
        input=key,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_pull_says_what_is_missing_and_what_to_do(without: str, tmp_path: Path) -> None:
    """Before it looks for the other machine; `check` and `--info-only` find it as well."""
    job = {
        "kind": "pull",
        "every": "1h",
        "host": "127.0.0.1",
        "remote_database": "/srv/gym.db",
        "replica": str(tmp_path / "gym.db"),
        "retry": {"attempts": 1},
    }
    config = write_config(tmp_path, {"pull": job})
    for words in (["pull", "pull", "--json"], ["pull", "pull", "--info-only", "--json"]):
        done = _gymdbd(without, "-c", config, *words)
        told = json.loads(done.stdout)
        assert (done.returncode, told["code"]) == (1, "library-missing"), done.stdout
        assert "paramiko" in told["error"]
        assert "-m pip install '.[ssh]'" in told["hint"]
    checks = json.loads(_gymdbd(without, "-c", config, "check", "--json").stdout)["checks"]
    (failed,) = [check for check in checks if check["name"] == "pull host"]
    assert (failed["state"], "paramiko" in failed["message"]) == ("error", True)


def test_everything_else_works(without: str, tmp_path: Path) -> None:
    """A backup, its restoration, the line for a key, and the serving of a pull with that key."""
    database = make_database(tmp_path / "gym.db")
    archive = ["--archive", tmp_path / "archive"]
    assert _gymdbd(without, "backup", "--database", database, *archive).returncode == 0
    restored = tmp_path / "restored.db"
    done = _gymdbd(without, "restore", "latest", *archive, "--to", restored)
    assert done.returncode == 0, done.stderr
    assert query(restored, "SELECT * FROM t") == query(database, "SELECT * FROM t")
    with SshServer(tmp_path / "sshd") as server:
        key = server.user_key.with_name("user_key.pub").read_text()
        line = _gymdbd(
            without, "authorize", "--database", database, "--gymdbd", "/bin/true", key=key
        )
        assert line.returncode == 0, line.stderr
        served = f"env PYTHONPATH={without} {' '.join(GYMDBD)} serve --database {database}"
    with SshServer(tmp_path / "forced", forced_command=served) as server:
        peer = Peer(server, database, tmp_path / "replica" / "gym.db")
        peer.replica.parent.mkdir()
        assert peer.pull().state == "ok"
    assert query(peer.replica, "SELECT * FROM t") == query(database, "SELECT * FROM t")

"""What is expensive to make, and made once, and what the tests of a pull begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import ledger
from tests.support.databases import make_large_database
from tests.support.pulling import Peer
from tests.support.sshd import ssh_home, ssh_server  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sshd import SshServer


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database a little larger than 1 GiB: a backup of it takes some seconds."""
    folder = tmp_path_factory.mktemp("large")
    return make_large_database(folder / "large.db", size_mib=1024 + 32)


@pytest.fixture
def peer(tmp_path: Path, ssh_home: Path, ssh_server: SshServer) -> Peer:  # noqa: F811
    """Give a ledger over there and no replica yet."""
    del ssh_home
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    database = ledger.create(tmp_path / "there" / "gym.db")
    return Peer(ssh_server, database, tmp_path / "here" / "replica.db")

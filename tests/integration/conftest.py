"""What is expensive to make, and made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import make_large_database

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database a little larger than 1 GiB: a backup of it takes some seconds."""
    folder = tmp_path_factory.mktemp("large")
    return make_large_database(folder / "large.db", size_mib=1024 + 32)

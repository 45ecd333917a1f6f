"""A newer SQLite than the system's, for processes whose Python links to the system's library.

The package pysqlite3-binary has SQLite in its one module, under its own names; the dynamic linker
finds it first under the name of the system's library.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = "import sqlite3; print(sqlite3.sqlite_version)"


def newer_sqlite(folder: Path) -> dict[str, str]:
    """Return the environment in which Python has the newer SQLite; `folder` takes a link to it."""
    found = importlib.util.find_spec("pysqlite3")
    assert found is not None, "pip install pysqlite3-binary"
    (package,) = found.submodule_search_locations or []
    (library,) = folder.__class__(package).glob("_sqlite3*.so")
    folder.mkdir(exist_ok=True)
    (folder / "libsqlite3.so.0").symlink_to(library)
    environment = {"LD_LIBRARY_PATH": str(folder)}
    told = subprocess.run(
        [sys.executable, "-c", _VERSION],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    version = tuple(map(int, told.stdout.split(".")))
    assert version >= (3, 47), "this Python has an SQLite of its own, no shared library"
    return environment

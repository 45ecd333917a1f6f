"""File names that come back decomposed, as from HFS+ and SMB: 한글 as its letters.

With DARWIN_NAMES=decomposed, a folder lists its names in NFD, and a name is found in either form.
The test, which sees the plain file system, has to write names in NFC.
"""

from __future__ import annotations

import os
import sqlite3
import unicodedata
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from tests.support.darwin import lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ONE_NAME = (
    *("stat", "lstat", "open", "access", "readlink", "unlink", "remove", "mkdir", "rmdir"),
    *("chmod", "chown", "utime", "truncate", "mkfifo", "statvfs", "chdir"),
)
_TWO_NAMES = ("rename", "replace", "link", "symlink")


def apply() -> None:
    """Let names have two forms."""
    for name in _ONE_NAME:
        lacking.replace(name, _composed)
    for name in _TWO_NAMES:
        lacking.replace(name, _both_composed)
    lacking.replace_open(_composed)
    lacking.replace("listdir", lambda plain: lambda path=".": [*map(_listed, plain(_nfc(path)))])
    lacking.replace("scandir", lambda plain: lambda path=".": _Scan(plain(_nfc(path))))
    sqlite3.connect = _connecting(sqlite3.connect)


def _is_on() -> bool:
    return os.environ.get("DARWIN_NAMES") == "decomposed"


def _nfc(path: Any) -> Any:
    if not _is_on() or isinstance(path, int):
        return path
    text = os.fspath(path)
    return unicodedata.normalize("NFC", text) if isinstance(text, str) else text


def _listed(name: Any) -> Any:
    return unicodedata.normalize("NFD", name) if _is_on() and isinstance(name, str) else name


def _composed(plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda path, *arguments, **options: plain(_nfc(path), *arguments, **options)


def _both_composed(plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda source, target, *a, **k: plain(_nfc(source), _nfc(target), *a, **k)


def _connecting(plain: Callable[..., Any]) -> Callable[..., Any]:
    """SQLite opens a file by itself, so it gets the form that is there."""

    def connect(database: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(database, str) and database.startswith("file:"):
            path, mark, query = database.partition("?")
            database = f"{quote(_nfc(unquote(path)), safe='/:')}{mark}{query}"
        return plain(_nfc(database), *arguments, **options)

    return connect


class _Scan:
    """What scandir returns."""

    def __init__(self, entries: Any) -> None:
        self._entries = entries

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        entry = next(self._entries)
        return _Entry(entry) if _is_on() else entry

    def close(self) -> None:
        """Close the folder."""
        self._entries.close()


class _Entry:
    """A DirEntry whose name is decomposed."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self._entry = entry
        self.name = _listed(entry.name)
        self.path = _listed(entry.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

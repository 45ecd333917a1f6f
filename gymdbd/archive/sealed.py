"""A small JSON file with a checksum of its own: any flipped bit in it is noticed."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from gymdbd import files

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
MAX_SIZE = 64 * 1024 * 1024

# What reading and using one may raise where it is not what was written.
FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, whole or not at all, with its checksum."""
    files.write_atomically(path, _seal(content))


def read(path: Path) -> dict[str, Any] | None:
    """Return what was written, None where nothing was; one of FAULTS if it is damaged."""
    try:
        with path.open("rb") as file:
            # Room is made for as many bytes as are asked for, however few there are.
            return parse(file.read(min(MAX_SIZE, os.fstat(file.fileno()).st_size)))
    except FileNotFoundError:
        return None


def parse(data: bytes) -> dict[str, Any]:
    """Return the content of such a file; one of FAULTS if it is damaged."""
    content: dict[str, Any] = json.loads(data.decode("utf-8", "surrogatepass"))
    if content.pop("checksum") != _checksum(content):
        raise ValueError("its checksum is wrong")
    if content["schema"] != SCHEMA:
        raise ValueError(f"its schema is {content['schema']}, this release knows {SCHEMA}")
    # JSON can say the same in other bytes, so that the checksum of what it says is not enough.
    if _seal(content) != data:
        raise ValueError("it is not written as it was")
    return content


def _seal(content: dict[str, Any]) -> bytes:
    """Return the bytes of the file."""
    sealed = {**content, "checksum": _checksum(content)}
    text = json.dumps(sealed, indent=1, ensure_ascii=False)
    # A table's name may hold bytes that are no text; they survive as lone surrogates.
    return (text + "\n").encode("utf-8", "surrogatepass")


def _checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content in its one canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""A small JSON file with its own checksum, so that any flipped bit is noticed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, disk, files, words

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

SCHEMA = 1
# A hundred thousand tables need a third of it. In memory JSON may be twenty times as large.
MAX_SIZE = 16 * 1024 * 1024

# The errors that reading and using a damaged file may raise; an OSError only if it is damage.
FAULTS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    MemoryError,
)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write `content` atomically, with its checksum."""
    files.write_atomically(path, _seal(content))


def read(path: Path, *, owners: Collection[int] | None = None) -> dict[str, Any] | None:
    """Return the content, None if there is no file; one of FAULTS if it is damaged.

    One that belongs to none of the `owners` counts as damaged. Raises SourceUnreadableError if it
    cannot be read, which is no damage.
    """
    try:
        return parse(bounded.read(path, MAX_SIZE, owners=owners))
    except FileNotFoundError:
        return None
    except OSError as error:
        if disk.is_damage(error):
            raise
        raise disk.not_checked(error, path) from error


def parse(data: bytes) -> dict[str, Any]:
    """Return the content of the file's bytes; one of FAULTS if they are damaged."""
    content: dict[str, Any] = json.loads(data.decode("utf-8", "surrogatepass"))
    if content.pop("checksum") != _checksum(content):
        raise ValueError("its checksum is wrong")
    if content["schema"] != SCHEMA:
        raise ValueError(f"its schema is {content['schema']}, this release knows {SCHEMA}")
    # The same content can be written as other bytes of JSON, so its checksum is not enough.
    if data not in (_seal(content), _seal_as_before(content)):
        raise ValueError("its bytes have been changed")
    return content


def _seal(content: dict[str, Any]) -> bytes:
    """Return the bytes of the file: UTF-8 that any program can read, whatever a table's name is."""
    sealed = {**content, "checksum": _checksum(content)}
    return (words.json_text(sealed, indent=1) + "\n").encode()


def _seal_as_before(content: dict[str, Any]) -> bytes:
    """Return the bytes that earlier releases wrote, in which a name may be no UTF-8."""
    sealed = {**content, "checksum": _checksum(content)}
    text = json.dumps(sealed, indent=1, ensure_ascii=False)
    return (text + "\n").encode("utf-8", "surrogatepass")


def _checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content in canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

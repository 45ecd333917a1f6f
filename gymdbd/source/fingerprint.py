"""What identifies a snapshot, so that the next pull can tell what has changed since.

Within one generation of the WAL the pages changed since frame F are those of the later frames.
A generation is told by its salts, the frame by its checksum, which sums everything before it,
and the main file by device, inode and ctime: a restore with `cp` onto it keeps all the rest.
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd.source.format import MOST_PAGES, PAGE_SIZES

if TYPE_CHECKING:
    from gymdbd.source.pages import Pages

SCHEMA = 1

# A file written within the resolution of its timestamps before they were read may be written
# again without their changing.
_SETTLED_NS = 1_000_000_000
_MOST_TEXT = 100


@dataclass(frozen=True)
class Fingerprint:
    """One snapshot. `frames`, `salts` and `checksum` place it in the WAL, 0 and "" without one.

    `settled` says that the main file's ctime was old enough to tell a later write. `method` is
    how the pages are read, one of `gymdbd.source.format`; `taken_ns` is the remote clock.
    """

    device: int
    inode: int
    ctime_ns: int
    size: int
    page_size: int
    page_count: int
    journal_mode: str
    method: str
    frames: int
    salts: str
    checksum_one: int
    checksum_two: int
    settled: bool
    taken_ns: int

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole snapshot."""
        return self.page_size * self.page_count

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> Fingerprint:
        """Read the result of `to_json`; ValueError if it is invalid."""
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError("not a fingerprint of a known schema")
        kinds: dict[str, type] = {"int": int, "str": str, "bool": bool}
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value = data.get(field.name)
            if type(value) is not kinds[str(field.type)]:
                raise ValueError(f"{field.name} is not of type {field.type}")
            if isinstance(value, str) and len(value) > _MOST_TEXT:
                raise ValueError(f"{field.name} is too long")
            values[field.name] = value
        found = cls(**values)
        if found.page_size not in PAGE_SIZES or not 0 < found.page_count <= MOST_PAGES:
            raise ValueError("page size and count cannot be those of a database")
        bytes.fromhex(found.salts)
        return found


def take(pages: Pages) -> Fingerprint:
    """Return the fingerprint of a held snapshot."""
    facts = os.stat(pages.snapshot.path)  # noqa: PTH116 - one call, no Path made
    mark = pages.mark
    now = time.time_ns()
    return Fingerprint(
        device=facts.st_dev,
        inode=facts.st_ino,
        ctime_ns=facts.st_ctime_ns,
        size=facts.st_size,
        page_size=pages.page_size,
        page_count=pages.count,
        journal_mode=pages.snapshot.facts.journal_mode,
        method=pages.method,
        frames=mark.frames if mark else 0,
        salts=mark.salts.hex() if mark else "",
        checksum_one=mark.checksum[0] if mark else 0,
        checksum_two=mark.checksum[1] if mark else 0,
        settled=now - facts.st_ctime_ns > _SETTLED_NS,
        taken_ns=now,
    )

"""Prove a copy: its integrity, its facts and rows, and its checksums."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gymdbd import bounded
from gymdbd.errors import CopyDamagedError, ReadFailedError, VerificationError
from gymdbd.source.counting import count_rows
from gymdbd.source.errors import SourceUnreadError
from gymdbd.source.schema import read_facts
from gymdbd.sqlite import modules, opening, soundness
from gymdbd.sqlite.soundness import Soundness

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path


HASHES = ("md5", "sha256")
FULL, QUICK, EQUAL = "full", "quick", "equal"

_CHUNK = 1024 * 1024
_HINT = "check the disk that it was written to (dmesg, SMART) and try again"


def _ignore(_: int) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class Checksums:
    """The size in bytes and the hexadecimal hashes of a file; "" if not computed."""

    size: int
    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Proof:
    """The proof of a copy: its checksums, and SQLite's findings that are not damage.

    `check_s` is what SQLite's check took, in seconds of processor time: a busy machine adds none.
    """

    sums: Checksums
    soundness: Soundness
    check_s: float


def prove(
    path: Path,
    expected: Mapping[str, Any],
    check: Callable[[], None],
    *,
    has_wal: bool = False,
    integrity: str = FULL,
    hashes: Sequence[str] = HASHES,
    advance: Callable[[int], None] = _ignore,
) -> Proof:
    """Prove that the copy at `path` is intact and equal to the snapshot.

    Integrity alone proves little, because an empty file is intact as well. Therefore everything in
    `expected` must be equal: `rows`, the rows of every table except the `uncounted` ones, any field
    of `Facts`, as read in the transaction of the snapshot, and any of the `hashes`. The hashes are
    computed in parallel, on other cores: both for a manifest, fewer for a copy without one.
    `integrity` is FULL; QUICK, which does not compare every index with its table; or EQUAL, which
    only compares with `expected`. Content that this SQLite cannot check is proven by the equality,
    and listed in the result. A FULL check also asks the modules of full-text indexes and R-trees.
    `advance` gets the number of bytes hashed since its last call. Raises
    VerificationError, or CopyDamagedError if the copy has the expected bytes but is damaged.
    """
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(checksums, path, check, advance, hashes)
        try:
            with opening.reading(path, has_wal=has_wal, check=check) as copy:
                found, check_s = _compare(copy, path, expected, integrity)
                if integrity == FULL:
                    found = _ask_modules(copy, path, found, check, has_wal=has_wal)
        except SourceUnreadError as error:
            # The source is another file, and nothing is known of it.
            raise ReadFailedError(
                f"the copy {path} could not be read back: {error.message}",
                hint="check the disk of this machine, and run this again; nothing has changed",
            ) from error
        finally:
            # Different bytes are reported first, because damage then proves nothing of the source.
            sums = hashing.result()
            _require_same(vars(sums), expected, path, HASHES)
        return Proof(sums, found, check_s)


def checksums(
    path: Path,
    check: Callable[[], None] = lambda: None,
    advance: Callable[[int], None] = _ignore,
    hashes: Sequence[str] = HASHES,
) -> Checksums:
    """Return the checksums of a file; `advance` gets the bytes read since its last call."""
    with ThreadPoolExecutor(len(HASHES)) as pool:
        running = {
            name: pool.submit(
                _digest, path, name, check, advance if name == hashes[-1] else _ignore
            )
            for name in hashes
        }
        found = {name: digest.result() for name, digest in running.items()}
        return Checksums(path.stat().st_size, **found)


def _compare(
    copy: sqlite3.Connection, path: Path, expected: Mapping[str, Any], integrity: str
) -> tuple[Soundness, float]:
    sound, begun = Soundness(), time.thread_time()
    if integrity != EQUAL:
        sound = _require_sound(copy, path, quick=integrity == QUICK)
    check_s = time.thread_time() - begun
    facts = read_facts(copy)
    found = {**vars(facts), "rows": count_rows(copy, facts)}
    _require_same(found, _countable(expected, found), path, found)
    return sound, check_s


def _countable(expected: Mapping[str, Any], found: dict[str, Any]) -> Mapping[str, Any]:
    """Remove the tables that one of the two SQLites could not count from both row counts."""
    if "rows" not in found or "rows" not in expected:
        return expected
    there, here = expected["rows"], found["rows"]
    unknown_there = set(expected.get("uncounted", ())) - there.keys()
    unknown_here = {name for _, name, _ in found["schema"]} - here.keys()
    found["rows"] = {name: rows for name, rows in here.items() if name not in unknown_there}
    rows = {name: rows for name, rows in there.items() if name not in unknown_here}
    return {**expected, "rows": rows}


def _require_sound(copy: sqlite3.Connection, path: Path, *, quick: bool) -> Soundness:
    found = soundness.check(copy, quick=quick)
    if found.problems:
        raise CopyDamagedError(
            f"the copy {path} is damaged: {'; '.join(found.problems[:3])}",
            hint=_HINT,
            problems=found.problems,
        )
    return found


def _ask_modules(
    copy: sqlite3.Connection,
    path: Path,
    found: Soundness,
    check: Callable[[], None],
    *,
    has_wal: bool,
) -> Soundness:
    """Let the modules of virtual tables check these; return all that was found."""
    told = modules.check(copy, path, check, has_wal=has_wal)
    if told.problems:
        raise CopyDamagedError(
            f"the copy {path} is damaged: {'; '.join(told.problems[:3])}",
            hint="a full-text index is built anew from its texts by INSERT INTO t(t) VALUES "
            "('rebuild'), if t is its name: no row is lost; earlier backups are kept meanwhile",
            problems=told.problems,
            every_page_sound=True,
        )
    unchecked = dict.fromkeys((*found.unchecked, *told.unchecked))
    return replace(found, unchecked=tuple(unchecked))


def _require_same(
    found: Mapping[str, Any], expected: Mapping[str, Any], path: Path, names: Iterable[str]
) -> None:
    for name in names:
        here, there = found[name], expected.get(name, found[name])
        if here != there:
            raise VerificationError(
                f"the copy {path} is not the snapshot it was made from: "
                f"{name} {_differing(here, there)}",
                hint=_HINT,
            )


def _differing(here: object, there: object) -> str:
    """Return how two facts differ; for the rows, only the tables that differ."""
    if isinstance(here, dict) and isinstance(there, dict):
        names = sorted(here.keys() | there.keys())
        differing = [name for name in names if here.get(name) != there.get(name)]
        return ", ".join(f"{name}: {here.get(name)} for {there.get(name)}" for name in differing)
    if isinstance(here, tuple) and isinstance(there, tuple):
        return f"{len(here)} entries for {len(there)}"
    return f"{here} for {there}"


def _digest(
    path: Path, name: str, check: Callable[[], None], advance: Callable[[int], None]
) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with os.fdopen(bounded.opened(path), "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            advance(len(chunk))
            check()
    return digest.hexdigest()

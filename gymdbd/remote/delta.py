"""How to bring a replica up to date: pure functions, without streams or files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd import words
from gymdbd.source import digests
from gymdbd.source.format import MAIN_FILE, ONLINE_BACKUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gymdbd.source.fingerprint import Fingerprint

FULL = "full"
TAIL = "wal-tail"
DIGEST = "digest"
UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Since:
    """A frame of the remote WAL; the local file has everything up to it."""

    salts: str
    frames: int
    checksum_one: int = 0
    checksum_two: int = 0


@dataclass(frozen=True)
class Plan:
    """A strategy and why it was chosen, in words for a log; `since` is for wal-tail."""

    strategy: str
    reason: str
    since: Since | None = None


def choose(saved: Fingerprint | None, remote: Fingerprint, local_size: int | None) -> Plan:
    """Choose how to bring the local file to the remote snapshot.

    `saved` is the fingerprint of the snapshot in the local file, None if it is unknown or no longer
    trusted; `local_size` the bytes of the local file, None without one. A shortcut is taken only if
    it cannot miss a change.
    """
    if not local_size:
        return Plan(FULL, "there is no replica yet")
    if saved is None:
        return Plan(DIGEST, "the content of the replica is unknown")
    if saved.page_size != remote.page_size:
        return Plan(FULL, "the page size changed")
    if reason := _why_no_shortcut(saved, remote, local_size):
        return Plan(DIGEST, reason)
    if saved.method == remote.method == MAIN_FILE:
        return Plan(UNCHANGED, "the main file has everything and was not written")
    return _by_wal(saved, remote)


def may_be_unchanged(saved: Fingerprint | None, local_size: int | None) -> bool:
    """Return whether the same fingerprint again would mean that nothing has changed."""
    return saved is not None and choose(saved, saved, local_size).strategy == UNCHANGED


def _why_no_shortcut(saved: Fingerprint, remote: Fingerprint, local_size: int) -> str:
    """Return why everything must be compared, or "" if a shortcut may be possible."""
    reasons = (
        (local_size != saved.size_bytes, "the replica does not have the size of the last pull"),
        (ONLINE_BACKUP in (saved.method, remote.method), "the pages could not be read directly"),
        ({saved.journal_mode, remote.journal_mode} != {"wal"}, "the database has no WAL"),
        (
            (saved.device, saved.inode) != (remote.device, remote.inode),
            "the database file was replaced",
        ),
        (saved.ctime_ns != remote.ctime_ns, "the main file was written"),
        (
            saved.method == MAIN_FILE and not saved.settled,
            "the main file was written too recently to tell",
        ),
    )
    return next((reason for applies, reason in reasons if applies), "")


def _by_wal(saved: Fingerprint, remote: Fingerprint) -> Plan:
    """Choose by the WAL, for an unchanged main file."""
    sums = (saved.checksum_one, saved.checksum_two)
    if saved.salts == remote.salts and 0 < saved.frames <= remote.frames:
        if saved.frames < remote.frames:
            since = Since(saved.salts, saved.frames, *sums)
            added = words.counted(remote.frames - saved.frames, "frame")
            return Plan(TAIL, f"the WAL grew by {added}", since)
        if sums == (remote.checksum_one, remote.checksum_two):
            return Plan(UNCHANGED, "the WAL ends where it ended last time")
        return Plan(DIGEST, "the WAL was rewritten")
    if saved.method == MAIN_FILE:
        # The replica equals the main file: all changes are in this WAL.
        found = words.counted(remote.frames, "frame")
        return Plan(TAIL, f"a new WAL, with {found}", Since(remote.salts, 0))
    return Plan(DIGEST, "the WAL was restarted")


def group_range(group: int, pages: int, page_size: int) -> range:
    """Return the page numbers of a group in a database of `pages` pages."""
    length = digests.group_pages(page_size)
    first = group * length + 1
    return range(first, min(first + length, pages + 1))


def requests(
    groups: Iterable[tuple[int, list[bytes]]], *, most_bytes: int
) -> Iterator[tuple[list[int], bytes]]:
    """Pack groups and their pages' digests into requests of at most about `most_bytes`."""
    numbers: list[int] = []
    parts: list[bytes] = []
    size = 0
    for group, found in groups:
        numbers.append(group)
        parts.append(group.to_bytes(4, "big") + b"".join(found))
        size += len(parts[-1])
        if size >= most_bytes:
            yield numbers, b"".join(parts)
            numbers, parts, size = [], [], 0
    if parts:
        yield numbers, b"".join(parts)

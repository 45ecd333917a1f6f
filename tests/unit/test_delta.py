"""Choosing how to bring a replica up to date."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gymdbd.remote import delta
from gymdbd.source.fingerprint import Fingerprint
from gymdbd.source.format import MAIN_FILE, ONLINE_BACKUP, PAGE_RULE

_SEEN = Fingerprint(
    device=1,
    inode=2,
    ctime_ns=3,
    size=40_960,
    page_size=4096,
    page_count=10,
    journal_mode="wal",
    method=PAGE_RULE,
    frames=7,
    salts="0102030405060708",
    checksum_one=11,
    checksum_two=12,
    settled=True,
    taken_ns=99,
)
_CHECKPOINTED = replace(_SEEN, method=MAIN_FILE)
_SIZE = _SEEN.size_bytes


def test_without_a_replica_everything_is_fetched() -> None:
    """No file, or an empty one, means full, whatever is remembered."""
    chosen = [delta.choose(_SEEN, _SEEN, size).strategy for size in (None, 0)]

    assert chosen == [delta.FULL, delta.FULL]


def test_the_same_frame_of_the_same_wal_means_unchanged() -> None:
    """Salts, frame and checksum as last time: nothing is to be done."""
    assert delta.choose(_SEEN, replace(_SEEN, taken_ns=100), _SIZE).strategy == delta.UNCHANGED


def test_later_frames_of_the_same_wal_are_its_tail() -> None:
    """The tail begins after the frame of last time, named by its checksum."""
    plan = delta.choose(_SEEN, replace(_SEEN, frames=9, checksum_one=5), _SIZE)

    assert plan.strategy == delta.TAIL
    assert plan.since == delta.Since(_SEEN.salts, 7, 11, 12)
    assert plan.reason == "the WAL grew by 2 frames"


def test_a_single_frame_is_told_in_the_singular() -> None:
    """The reason is read by a person, in the output of a pull."""
    grown = delta.choose(_SEEN, replace(_SEEN, frames=8, checksum_one=5), _SIZE)
    begun = delta.choose(_CHECKPOINTED, replace(_SEEN, salts="ff" * 8, frames=1), _SIZE)

    assert grown.reason == "the WAL grew by 1 frame"
    assert begun.reason == "a new WAL, with 1 frame"


def test_a_new_wal_over_the_main_file_of_last_time_is_a_tail_from_its_start() -> None:
    """Where the replica is what the main file still is, the new WAL is the whole difference."""
    plan = delta.choose(_CHECKPOINTED, replace(_SEEN, salts="ff" * 8, frames=3), _SIZE)

    assert (plan.strategy, plan.since) == (delta.TAIL, delta.Since("ff" * 8, 0))


def test_a_main_file_that_holds_everything_and_was_not_written_means_unchanged() -> None:
    """The salts of an empty WAL, chosen anew by whoever opens the database, do not matter."""
    saved = replace(_CHECKPOINTED, frames=0, salts="00" * 8)
    remote = replace(_CHECKPOINTED, frames=0, salts="ff" * 8)

    assert delta.choose(saved, remote, _SIZE).strategy == delta.UNCHANGED


@pytest.mark.parametrize(
    ("saved", "changes"),
    [
        (_SEEN, {"inode": 3}),
        (_SEEN, {"device": 3}),
        (_SEEN, {"ctime_ns": 4}),
        (_SEEN, {"salts": "ff" * 8}),
        (_SEEN, {"frames": 6}),
        (_SEEN, {"checksum_two": 13}),
        (_SEEN, {"journal_mode": "delete", "method": MAIN_FILE}),
        (_SEEN, {"method": ONLINE_BACKUP}),
        (replace(_SEEN, method=ONLINE_BACKUP), {"method": PAGE_RULE}),
        (replace(_CHECKPOINTED, settled=False), {}),
        (replace(_CHECKPOINTED, ctime_ns=2), {}),
    ],
)
def test_every_doubt_leads_to_comparing_everything(
    saved: Fingerprint, changes: dict[str, Any]
) -> None:
    """A shortcut is taken only where nothing can have changed behind its back."""
    remote = replace(_SEEN, **{"method": saved.method, **changes})
    plan = delta.choose(saved, remote, _SIZE)

    assert (plan.strategy, plan.since) == (delta.DIGEST, None)


def test_a_replica_of_unknown_content_is_compared() -> None:
    """Nothing remembered, or another size than remembered, means digest."""
    chosen = [
        delta.choose(saved, _SEEN, size).strategy for saved, size in ((None, _SIZE), (_SEEN, 4096))
    ]

    assert chosen == [delta.DIGEST, delta.DIGEST]


def test_another_page_size_means_everything_is_fetched() -> None:
    """Pages of another size cannot be compared with ours."""
    assert delta.choose(_SEEN, replace(_SEEN, page_size=512), _SIZE).strategy == delta.FULL


def test_a_fingerprint_survives_its_json() -> None:
    """What is saved beside a replica is read back as it was."""
    assert Fingerprint.from_json(_SEEN.to_json()) == _SEEN


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"page_size": 1000},
        {"page_count": 0},
        {"page_count": 2**33},
        {"frames": True},
        {"salts": "not hexadecimal"},
        {"method": "x" * 101},
        {"inode": None},
    ],
)
def test_a_fingerprint_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    """A damaged state file or a hostile server gets no further."""
    with pytest.raises(ValueError, match=r".+"):
        Fingerprint.from_json({**_SEEN.to_json(), **changes})


def test_requests_are_bounded_and_complete() -> None:
    """Groups are packed in order, and a request is closed once it is large enough."""
    groups = [(number, [bytes(16)] * 32) for number in range(100)]
    requests = list(delta.requests(groups, most_bytes=2000))

    assert [number for numbers, _ in requests for number in numbers] == list(range(100))
    assert max(len(payload) for _, payload in requests) < 2000 + 4 + 32 * 16

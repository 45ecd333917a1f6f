"""The marks of a backup: verdicts and decisions that came after it was made.

The manifest is never changed. The marks are in `<backup>.marks.json` beside it, which exists only
if there has been a verdict or a decision.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, clock
from gymdbd.archive import sealed
from gymdbd.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

# The time of a pin that replaces lost marks.
_UNKNOWN_TIME = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The marks of a backup; times are RFC 3339 with an offset, None means never.

    `verified_at` is when it was last read completely, and `problems` what was wrong with it then.
    `accepted_at` and `rejected_at` are when its content was accepted or rejected; at most one of
    them is set. `kept_at` is when it was pinned against pruning, and `note` why.
    """

    verified_at: str | None = None
    problems: list[str] = dataclasses.field(default_factory=list)
    accepted_at: str | None = None
    rejected_at: str | None = None
    kept_at: str | None = None
    note: str = ""
    schema: int = sealed.SCHEMA


# Those of a backup on which there has been no verdict and no decision.
NONE = Marks()


def marks_path(backup: Path) -> Path:
    """Return the path of a backup's marks."""
    return backup.with_name(backup.name + ".marks.json")


def read(backup: Path) -> Marks:
    """Return the marks of `backup`, empty if there are none; FormatError if damaged.

    Raises SourceUnreadableError if they cannot be read.
    """
    path = marks_path(backup)
    try:
        return of(sealed.read(path) or {})
    except sealed.FAULTS as error:
        raise FormatError(
            f"the marks {path} cannot be used ({error})",
            hint="the backup is not pruned until gymdbd verify has written new marks",
        ) from error


def of(content: dict[str, Any]) -> Marks:
    """Make marks of what JSON has for them; one of sealed.FAULTS if that is none."""
    marks = bounded.typed(Marks, content)
    for moment in (marks.verified_at, marks.accepted_at, marks.rejected_at, marks.kept_at):
        clock.from_text(moment or _UNKNOWN_TIME)
    return marks


def said(marks: Marks) -> dict[str, Any]:
    """Return what marks say, without what they leave open: `of` makes them of it again."""
    return {name: value for name, value in asdict(marks).items() if value != getattr(NONE, name)}


def change(backup: Path, **changes: Any) -> Marks:
    """Change some marks of `backup` and return all; the caller holds the archive's lock.

    Damaged marks are replaced by new ones with a pin, because there may have been one; marks that
    cannot be read raise SourceUnreadableError and stay.
    """
    try:
        before = read(backup)
    except FormatError:
        before = Marks(kept_at=_UNKNOWN_TIME, note="pinned because its marks were damaged")
    after = dataclasses.replace(before, **changes)
    sealed.write(marks_path(backup), asdict(after))
    return after

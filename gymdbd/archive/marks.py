"""What became known of a backup after it was made: verdicts, and what people said of it.

The manifest is never changed; the marks beside it, `<backup>.marks.json`, may be, and a backup
that nobody has looked at since has none.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from gymdbd.archive import sealed
from gymdbd.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

# The time of a pin that nobody is known to have set.
IN_DOUBT = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The marks of one backup; times are RFC 3339 with an offset, None is never.

    `verified_at` is when it was last read as a whole, and `problems` what was wrong with it
    then. `accepted_at` is when somebody said that its suspicious content is right, `rejected_at`
    when somebody said that it is wrong: at most one of them is set. `kept_at` is when somebody
    pinned it against pruning, and `note` why.
    """

    verified_at: str | None = None
    problems: list[str] = dataclasses.field(default_factory=list)
    accepted_at: str | None = None
    rejected_at: str | None = None
    kept_at: str | None = None
    note: str = ""
    schema: int = sealed.SCHEMA


def marks_path(backup: Path) -> Path:
    """Return where the marks of a backup lie."""
    return backup.with_name(backup.name + ".marks.json")


def read(backup: Path) -> Marks:
    """Return the marks of `backup`, empty where there are none; FormatError if damaged."""
    path = marks_path(backup)
    try:
        content = sealed.read(path) or {}
        return Marks(
            **{one.name: content[one.name] for one in fields(Marks) if one.name in content}
        )
    except sealed.FAULTS as error:
        raise FormatError(
            f"the marks {path} cannot be used ({error})",
            hint="the backup stays until gymdbd verify has written new ones",
        ) from error


def change(backup: Path, **changes: Any) -> Marks:
    """Change some marks of `backup` and return all; the archive's lock is held.

    Damaged ones are begun anew, with a pin in case there was one.
    """
    try:
        before = read(backup)
    except FormatError:
        before = Marks(kept_at=IN_DOUBT, note="pinned in doubt: its marks were damaged")
    after = dataclasses.replace(before, **changes)
    sealed.write(marks_path(backup), asdict(after))
    return after

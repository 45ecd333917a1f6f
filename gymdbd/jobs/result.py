"""The base of all results of a run, and their conversion to JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

# How a field is written as JSON, if not under its name: never, only if it is not None, or by
# the keys of its own fields if it is not None.
_NEVER, _IF_KNOWN, _PART, _UNRECORDED = "never", "if known", "part", "unrecorded"


def inner(default: Any) -> Any:
    """Make a field that is not written as JSON."""
    return field(default=default, metadata={"told": _NEVER})


def if_known() -> Any:
    """Make a field that is written as JSON only if it is not None."""
    return field(default=None, metadata={"told": _IF_KNOWN})


def part() -> Any:
    """Make a field whose own fields are written as JSON in its place, unless it is None."""
    return field(default=None, metadata={"told": _PART})


def unrecorded() -> Any:
    """Make a field that only the person who ran the job gets: it may be a secret."""
    return field(metadata={"told": _UNRECORDED})


def plain(value: Any, *, recorded: bool = False) -> Any:
    """Return what JSON can hold of a value: dataclasses become objects, tuples lists.

    If it is to be recorded, without what may be a secret.
    """
    if dataclasses.is_dataclass(value):
        content: dict[str, Any] = {}
        for known in dataclasses.fields(value):
            told, held = known.metadata.get("told"), getattr(value, known.name)
            always = told is None or (told == _UNRECORDED and not recorded)
            if always or (told == _IF_KNOWN and held is not None):
                content[known.name] = plain(held, recorded=recorded)
            elif told == _PART and held is not None:
                content |= plain(held, recorded=recorded)
        return content
    if isinstance(value, dict):
        return {name: plain(held, recorded=recorded) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(held, recorded=recorded) for held in value]
    return value


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a run; its fields are the keys that `--json` prints."""

    @property
    def state(self) -> str:
        """Return the state of a run that ends with it."""
        return "ok"

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` has it."""
        content: dict[str, Any] = plain(self)
        return content

    def recorded(self) -> dict[str, Any]:
        """Return it as the status file and a child's answer have it: without secrets."""
        content: dict[str, Any] = plain(self, recorded=True)
        return content


@dataclass(frozen=True, kw_only=True)
class Saved(Result):
    """All that a run could save: a damaged database, as it is."""

    damaged_copy: str

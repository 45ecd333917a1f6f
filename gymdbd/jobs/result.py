"""The base of all results of a run, and their conversion to JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

# How a field is written as JSON, if not under its name: never, only if it is not None, or by
# the keys of its own fields if it is not None.
_NEVER, _IF_KNOWN, _PART = "never", "if known", "part"


def inner(default: Any) -> Any:
    """Make a field that is not written as JSON."""
    return field(default=default, metadata={"told": _NEVER})


def if_known() -> Any:
    """Make a field that is written as JSON only if it is not None."""
    return field(default=None, metadata={"told": _IF_KNOWN})


def part() -> Any:
    """Make a field whose own fields are written as JSON in its place, unless it is None."""
    return field(default=None, metadata={"told": _PART})


def plain(value: Any) -> Any:
    """Return what JSON can hold of a value: dataclasses become objects, tuples lists."""
    if dataclasses.is_dataclass(value):
        content: dict[str, Any] = {}
        for known in dataclasses.fields(value):
            told, held = known.metadata.get("told"), getattr(value, known.name)
            if told is None or (told == _IF_KNOWN and held is not None):
                content[known.name] = plain(held)
            elif told == _PART and held is not None:
                content |= plain(held)
        return content
    if isinstance(value, dict):
        return {name: plain(held) for name, held in value.items()}
    return [plain(held) for held in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a run; its fields are the keys that `--json` prints."""

    @property
    def state(self) -> str:
        """Return the state of a run that ends with it."""
        return "ok"

    def to_json(self) -> dict[str, Any]:
        """Return it as in `--json`, the status file and a child's answer."""
        content: dict[str, Any] = plain(self)
        return content


@dataclass(frozen=True, kw_only=True)
class Saved(Result):
    """All that a run could save: a damaged database, as it is."""

    damaged_copy: str

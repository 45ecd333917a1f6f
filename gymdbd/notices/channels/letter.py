"""A message as every channel takes it, and cutting it to what a service accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gymdbd.words import printable


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A title of one line, a text, and what programs are told; `content` is all of it as JSON."""

    title: str
    text: str
    priority: str
    health: str
    machine: str
    job: str
    content: dict[str, Any]

    @classmethod
    def of(cls, content: dict[str, Any]) -> Letter:
        """Return the letter of a message that `Message.to_json` wrote."""
        names = ("text", "priority", "health", "machine", "job")
        # A line break in the title would begin another header of an e-mail or a request.
        title = printable(" ".join(str(content.get("title") or "gymdbd").split()))
        # A name with bytes that are no Unicode would let an e-mail fail.
        words = {name: printable(str(content.get(name) or ""), kept="\n") for name in names}
        return cls(title=title, content=content, **words)


def cut(text: str, most: int, encoding: str = "utf-8") -> str:
    """Return a text of at most `most` bytes in an encoding; an ellipsis stands for what is cut."""
    data = text.encode(encoding, "replace")
    if len(data) <= most:
        return data.decode(encoding)
    ellipsis = "\u2026"
    room = most - len(ellipsis.encode(encoding))
    return data[:room].decode(encoding, "ignore") + ellipsis

"""Questions to the person at the terminal. Without a terminal nothing is asked."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING

from gymdbd.errors import StoppedError
from gymdbd.terminal.output import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymdbd.terminal.output import Output


def is_possible(output: Output) -> bool:
    """Return whether somebody can be asked: a program that wants JSON cannot."""
    return not output.json and sys.stdin.isatty() and sys.stderr.isatty()


def choose(question: str, choices: Sequence[str]) -> int:
    """Let the person choose by number; Enter means the first. Returns the place in `choices`."""
    for number, choice in enumerate(choices, 1):
        _write(f"  {number}  {choice}\n")
    numbers = f"1 to {len(choices)}; " if len(choices) > 1 else ""
    while True:
        answer = _answer(f"{question} ({numbers}Enter: 1; q: none of them) ")
        if answer.lower() in ("q", "quit", "n", "no"):
            raise StoppedError("nothing was chosen", hint="name it with --database PATH")
        if not answer:
            return 0
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(choices):
            return int(answer) - 1


def text(question: str, default: str) -> str:
    """Ask for a text; Enter means the default."""
    return _answer(f"{question} (Enter: {default}) " if default else f"{question} ") or default


def waited(seconds: float) -> None:
    """Wait until the person presses Enter, at most for so long."""
    if select.select([sys.stdin], [], [], seconds)[0]:
        sys.stdin.readline()


def _answer(question: str) -> str:
    _write(question)
    answer = sys.stdin.readline()
    if not answer:
        _write("\n")
        raise StoppedError("there was no answer", hint="type it again, and answer or name it")
    return answer.strip()


def _write(line: str) -> None:
    sys.stderr.write("\n".join(map(printable, line.split("\n"))))
    sys.stderr.flush()

"""The gymdbd commands that a text tells its reader to type, as the words that argparse gets."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(gymdbd\s[^`]+)`")
_PROMPT = "$ "
_SHELLS = ("sh", "bash")
_OPERATORS = frozenset("();<>|&")


def in_markdown(text: str) -> list[list[str]]:
    """Return every gymdbd command of a page: behind a prompt, in shell blocks, and in backticks.

    A verb alone in backticks is named, not typed: its help is what must be there.
    """
    lines = []
    for language, block in _FENCE.findall(text):
        joined = block.replace("\\\n", " ").splitlines()
        if language == "console":
            lines += [line.removeprefix(_PROMPT) for line in joined if line.startswith(_PROMPT)]
        elif language in _SHELLS:
            lines += joined
    # In a table a bar within backticks is escaped, and stands between choices.
    named = [
        re.sub(r"\\\|\S+", "", line.replace("\n", " "))
        for line in _INLINE.findall(_FENCE.sub("", text))
    ]
    lines += [f"{line} --help" if len(line.split()) == 2 else line for line in named]
    return [words for line in lines for words in in_line(line)]


def in_help(text: str) -> list[list[str]]:
    """Return every command of the examples of a help: the lines that begin with it."""
    examples = text.partition("\nexamples:\n")[2].partition("\n\n")[0].replace("\\\n", " ")
    lines = [line for line in examples.splitlines() if line.startswith("  gymdbd ")]
    return [words for line in lines for words in in_line(line)]


def in_line(line: str) -> Iterator[list[str]]:
    """Yield the words after `gymdbd` of every command of a line of shell that runs it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    redirected = False
    for word in [*lexer, ";"]:
        if not set(word) <= _OPERATORS:
            if not redirected:
                command.append(word)
        elif word.strip("<>") == "" or word == "<":
            redirected = True
        else:
            yield from _arguments(command)
            command, redirected = [], False


def _arguments(command: list[str]) -> Iterator[list[str]]:
    words = list(command)
    if words[:1] == ["sudo"]:
        words = words[3:] if words[1:2] == ["-u"] else words[1:]
    if words[:1] == ["ssh"]:
        words = words[2:]
    if words and PurePosixPath(words[0]).name == "gymdbd":
        yield words[1:]

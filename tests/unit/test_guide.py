"""The guides: every gymdbd command that they tell a reader to type can be typed."""

from __future__ import annotations

import ast
import contextlib
import re

import pytest

from gymdbd import cli, commands
from gymdbd.notices import korean
from tests.support import typed
from tests.support.guides import PAGES, ROOT, read


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_guide_is_understood(page: str) -> None:
    """Each parses, and one that asks for help or the version is answered."""
    for words in typed.in_markdown(read(page)):
        # Asking for help or the version ends the process, the others do not.
        with contextlib.suppress(SystemExit):
            cli.parser_for(words).parse_args(words)


def test_the_operators_guide_says_which_health_a_word_of_a_message_is() -> None:
    """A message is Korean, and status is English."""
    text = read("deploy/GUIDE.ko.md")
    for state in ("failing", "late", "suspicious"):
        assert re.search(rf'"{korean.WORDS[state]}"\w* (`gymdbd status`의 )?`{state}`', text), state


def test_every_block_of_the_operators_guide_says_where_to_type_it() -> None:
    """A comment above each block of commands names the machine: pi, mac, or both."""
    text = read("deploy/GUIDE.ko.md")
    marked = re.findall(r"^<!-- (?:pi|mac|pi, mac) -->\n```console\n", text, re.MULTILINE)
    assert len(marked) == text.count("```console\n") > 0


def test_the_operators_guide_tells_about_every_verb_of_daily_use() -> None:
    """What people run by hand is in it; what services and developers run is not asked for."""
    told = {word for words in typed.in_markdown(read("deploy/GUIDE.ko.md")) for word in words}
    assert (
        commands.VERBS.keys()
        - {*("run", "init"), *("serve", "completion", "demo", "metrics")}
        - told
        == set()
    )


# How the pages name a message: in the first column of a table, or in a heading.
_MESSAGE = re.compile(r'^(?:\| (?=`)|### (?="))([^|\n]*)', re.MULTILINE)
_NOT_OURS = {"database is locked"}  # SQLite's, by the application


def _literals() -> list[str]:
    """Return the texts of the code; in those of an f-string a value is a line's end."""
    found = []
    for path in (ROOT / "gymdbd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "\n" for part in node.values
                ]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("page", ["deploy/GUIDE.ko.md", "deploy/README.md"])
def test_every_message_that_a_guide_explains_is_one_of_ours(page: str) -> None:
    """Whoever searches the guide for what is on the screen finds it: `...` stands for a value."""
    named = [
        text for line in _MESSAGE.findall(read(page)) for text in re.findall(r'[`"](.+?)[`"]', line)
    ]
    sentences = [text for text in named if " " in text and not text.startswith("systemctl")]
    parts = (
        {part.strip(" ,;") for text in sentences for part in text.split("...")} - {""} - _NOT_OURS
    )
    assert len(parts) > 5
    literals = _literals()
    assert sorted(part for part in parts if not any(part in text for text in literals)) == []

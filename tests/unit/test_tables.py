"""Tables: a row is one line, and the cells of a column stand below each other."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from gymdbd.terminal import tables
from gymdbd.terminal.output import Output

if TYPE_CHECKING:
    import pytest


def _drawn(*rows: list[str]) -> list[str]:
    return tables.drawn(["table", "rows", "note"], list(rows), right=("rows",), rule="-")


def test_numbers_stand_at_the_right_and_texts_at_the_left() -> None:
    """No line ends with spaces, and the rule is as long as the heading."""
    long = "a text that is longer than all the rest"
    expected = [
        "table      rows  note",
        "---------------------",
        "members     344",
        f"events   21,868  {long}",
    ]
    assert expected == _drawn(["members", "344", ""], ["events", "21,868", long])


def test_wide_letters_take_two_columns_and_accents_none() -> None:
    """Hangul, also as a Mac takes it apart, and an accent that stands on its letter."""
    apart = [unicodedata.normalize("NFD", "회원"), "1", "|"]
    lines = _drawn(["회원", "1", "|"], apart, ["x̌café", "1", "|"], ["members", "1", "|"])
    expected = ["회원        1  |", f"{apart[0]}        1  |", "x̌café       1  |"]
    assert [*expected, "members     1  |"] == lines[2:]


def test_a_row_is_one_line_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """However long, and with a line break and an escape sequence in it."""
    path = "/srv/" + "backups/" * 40
    Output().table(["path", "note"], [[path, "of\nno\x1b[2Jbody"], ["b", ""]])
    lines = capsys.readouterr().out.splitlines()
    assert [f"{path}  of\\nno\\x1b[2Jbody", "b"] == lines[2:]

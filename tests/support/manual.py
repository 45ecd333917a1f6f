"""The manual page gymdbd(1), made from the help of every verb.

`python -m tests.support.manual` writes deploy/man/gymdbd.1, which the wheel, the Debian package and
install.sh bring along. It is kept as a file because a wheel is built without gymdbd's dependencies,
and without them there is no help.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd import __version__, cli, commands
from gymdbd.clock import RELEASED
from tests.support.command import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "deploy/man/gymdbd.1"
_HEADING = re.compile(
    r"^(commands|options|positional arguments|examples|files|exit status):\n", re.MULTILINE
)
# Python 3.13 names the value of an option once, the older ones behind each of its names.
_NAMED_TWICE = re.compile(r"^(-\w) ([A-Z]+), (--\S+) \2$")
_ENVIRONMENT = """
  GYMDBD_CONFIG  the configuration file, if --config names none
"""
_ROFF = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "^": r"\(ha", "~": r"\(ti"}
_SEE_ALSO = "sqlite3(1), ssh_config(5), systemctl(1), journalctl(1)"


@dataclass(frozen=True)
class _Help:
    """What `--help` prints, taken apart: the words after `gymdbd`, the text, and the sections."""

    usage: str
    text: str
    sections: dict[str, str]


def _help(*verb: str) -> _Help:
    """Ask for the help of a verb, or of gymdbd, in lines that argparse does not break."""
    printed = io.StringIO()
    with _columns("2000"), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli.parser_for([*verb]).parse_args([*verb, "--help"])
    above, *rest = _HEADING.split(printed.getvalue())
    usage, _, text = above.partition("\n\n")
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    if verb:
        sections["options"] = re.sub(r"^  -h.*\n", "", sections["options"])
    return _Help(usage.removeprefix("usage: gymdbd "), text.strip(), sections)


@contextlib.contextmanager
def _columns(width: str) -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = width
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def page() -> str:
    """Return the manual page, as roff."""
    whole = _help()
    helps = {verb: _help(verb) for verb in commands.VERBS}
    exits = whole.sections["exit status"]
    lines = [
        r".\" Made from the help of the verbs: python -m tests.support.manual",
        f'.TH GYMDBD 1 {RELEASED:%Y-%m-%d} "gymdbd {__version__}" "User Commands"',
        # Neither stretched nor divided: a reader searches for words.
        ".ad l",
        ".nh",
        ".SH NAME",
        r"gymdbd \- keep a live SQLite database safe: verified backups and proven replicas",
        ".SH SYNOPSIS",
        _command("gymdbd", whole.usage),
        ".SH DESCRIPTION",
        *_text(whole.text),
        ".SH OPTIONS",
        *_entries(whole.sections["options"]),
        ".SH COMMANDS",
    ]
    for verb, told in helps.items():
        lines += [f".SS {verb}", *_verb(verb, told, exits)]
    for name, section in (
        ("EXAMPLES", whole.sections["examples"]),
        ("ENVIRONMENT", _ENVIRONMENT),
        ("FILES", whole.sections["files"]),
        ("EXIT STATUS", exits),
    ):
        lines += [f".SH {name}", *_entries(section, commands=name == "EXAMPLES")]
    return "\n".join([*lines, ".SH SEE ALSO", _escaped(_SEE_ALSO), ""])


def _verb(verb: str, told: _Help, exits: str) -> Iterator[str]:
    """Yield the part of one verb: its synopsis, its text, and its sections."""
    yield _command(f"gymdbd {verb}", told.usage.removeprefix(verb))
    yield ".PP"
    yield from _text(told.text)
    for name, section in told.sections.items():
        if name in ("positional arguments", "options"):
            yield from _entries(section)
        elif section != exits:
            yield ".PP"
            yield f"{name.capitalize()}:"
            yield from _entries(section, commands=name == "examples")


def _command(name: str, rest: str) -> str:
    """Return the usage of a command: its name in bold, the rest as it is."""
    return f"{_bold(name)} {_escaped(rest.strip())}"


def _bold(text: str) -> str:
    return rf"\fB{_escaped(text)}\fR"


def _text(text: str) -> Iterator[str]:
    """Yield paragraphs; of one with two columns, each term with what is said about it."""
    for number, paragraph in enumerate(re.split(r"\n\n+", text)):
        if re.match(r"\S+  +\S", paragraph):
            yield from _entries(re.sub("^", "  ", paragraph, flags=re.MULTILINE))
            continue
        if number:
            yield ".PP"
        if paragraph.startswith(" "):
            yield from (".nf", *map(_escaped, paragraph.rstrip().splitlines()), ".fi")
        else:
            yield from _filled(paragraph)


def _entries(section: str, *, commands: bool = False) -> Iterator[str]:
    """Yield the entries of a section: a term two columns in, and what is said about it."""
    for entry in re.split(r"^  (?=\S)", section.replace("\\\n      ", ""), flags=re.MULTILINE)[1:]:
        first, *more = entry.rstrip().splitlines()
        term, _, said = (first, "", "") if commands else first.partition("  ")
        yield ".TP"
        yield _bold(_NAMED_TWICE.sub(r"\1, \3 \2", term))
        yield from _filled(" ".join((said, *more)))


def _filled(text: str) -> Iterator[str]:
    """Yield a text in lines of a length that an editor shows; roff fills them anew."""
    lines = textwrap.wrap(
        " ".join(text.split()), 72, break_long_words=False, break_on_hyphens=False
    )
    yield from map(_escaped, lines)


def _escaped(text: str) -> str:
    """Return a line for roff: nothing in it is a request, a hyphen or a typographic mark."""
    for letter, roff in _ROFF.items():
        text = text.replace(letter, roff)
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text).replace("`", r"\(ga")
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")

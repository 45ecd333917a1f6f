"""The help of every verb: whole, of one style, and with examples that can be typed."""

from __future__ import annotations

import pytest

from gymdbd import cli, commands
from gymdbd.errors import UsageError
from tests.support import typed

_PAGES = [[], *([verb] for verb in commands.VERBS)]
_WIDTH = 80


def help_of(
    page: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Return what `--help` prints on a terminal of ordinary width."""
    monkeypatch.setenv("COLUMNS", str(_WIDTH))
    with pytest.raises(SystemExit):
        cli.main([*page, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("page", _PAGES, ids=" ".join)
def test_help_fits_a_terminal(
    page: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is longer than 80 letters."""
    text = help_of(page, capsys, monkeypatch)
    assert [line for line in text.splitlines() if len(line) > _WIDTH] == []


@pytest.mark.parametrize("page", _PAGES, ids=" ".join)
def test_help_has_examples_and_tells_the_exit_codes_last(
    page: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sections come in the order of a manual page, with one line for each exit code."""
    text = help_of(page, capsys, monkeypatch)
    order = [text.index(f"\n{name}:\n") for name in ("options", "examples", "exit status")]
    assert order == sorted(order)
    told = text.partition("\nexit status:\n")[2].splitlines()
    codes = [int(line[2]) for line in told if line[2:3].isdigit()]
    assert codes == list(range(max(codes) + 1))
    assert {0, 1, 2} <= set(codes)


@pytest.mark.parametrize("page", _PAGES, ids=" ".join)
def test_every_example_is_a_command_line_that_is_understood(
    page: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is at least one, each parses, and those of a verb are about that verb."""
    examples = typed.in_help(help_of(page, capsys, monkeypatch))
    assert examples
    for words in examples:
        arguments = cli.parser_for(words).parse_args(words)
        assert not page or arguments.run.__module__ == f"gymdbd.commands.{page[0]}"


@pytest.mark.parametrize("page", [[verb] for verb in commands.VERBS], ids=" ".join)
def test_every_flag_is_explained(
    page: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No flag or argument of a verb stands there without a word about it."""
    text = help_of(page, capsys, monkeypatch)
    listed = text.partition("\npositional arguments:\n" if "\npositional" in text else "options:\n")
    flags = listed[2].partition("\n\nexamples:")[0].replace("\n\noptions:", "").splitlines()
    entries = [line for line in flags if line.startswith("  ") and line[2] != " "]
    following = dict(zip(flags, [*flags[1:], ""], strict=True))
    bare = [
        line
        for line in entries
        if "  " not in line.strip() and not following[line].startswith("      ")
    ]
    assert bare == []


def test_a_command_that_cannot_be_is_found_in_a_text() -> None:
    """Prompts, sudo, ssh, pipes and redirections around a command are no part of it."""
    text = (
        "Try `gymdbd list`, or `gymdbd\nprune a`.\n"
        "```console\n$ sudo -u pi gymdbd backup a \\\n    --raw | tee x && ls\n"
        "gymdbd said this\n$ ssh pi /opt/gymdbd/bin/gymdbd -c 'a b' status > /tmp/gymdbd # really\n"
        "```\n```sh\nsystemctl status gymdbd\ngymdbd frobnicate\n```\n"
    )
    expected = [
        ["backup", "a", "--raw"],
        ["-c", "a b", "status"],
        ["frobnicate"],
        ["list", "--help"],
        ["prune", "a"],
    ]
    assert typed.in_markdown(text) == expected
    with pytest.raises(UsageError):
        cli.parser_for(expected[2]).parse_args(expected[2])

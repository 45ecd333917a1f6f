"""The manual page: every verb with its flags, in roff that the formatters understand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from gymdbd import __version__, commands
from tests.support import manual
from tests.unit.test_help import help_of

if TYPE_CHECKING:
    from pathlib import Path

_FLAG = re.compile(r"^  (?:-\w(?: [A-Z]+)?, )?(--[a-z-]+)", re.MULTILINE)


def _printed(path: Path) -> str:
    """Return what `man` shows, and fail on any warning of the formatter."""
    done = subprocess.run(
        ["man", "--warnings=w", "--local-file", path],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANPAGER": "cat"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return re.sub(".\b", "", done.stdout)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the page, as it would be made now."""
    path = tmp_path_factory.mktemp("man") / "gymdbd.1"
    path.write_text(manual.page())
    return path


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_the_manual_page_is_clean_roff(page: Path) -> None:
    """Mandoc, which macOS, Alpine and the BSDs have, finds nothing at all to complain about."""
    done = subprocess.run(
        ["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_the_manual_page_has_every_verb_with_every_flag(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groff warns of nothing, and what `--help` lists is what it prints, verb by verb."""
    shown = _printed(page)
    assert shown.rstrip().splitlines()[-1].startswith(f"gymdbd {__version__} ")
    parts = dict(re.findall(r"^   (\w+)\n(.*?)(?=^   \w|^\w)", shown, re.MULTILINE | re.DOTALL))
    assert list(parts) == list(commands.VERBS)
    for verb, part in parts.items():
        told = help_of([verb], capsys, monkeypatch)
        flags = set(_FLAG.findall(told)) - {"--help"}
        listed = set(re.findall(r"^       (?:-\w, )?(--[a-z-]+)", part, re.MULTILINE))
        assert (verb, flags - listed) == (verb, set())
        assert commands.VERBS[verb] in " ".join(part.split())


def test_a_command_of_the_manual_page_can_be_copied(page: Path) -> None:
    """Dashes, quotes and tildes are those of a keyboard.

    Debian's groff makes none of them typographic, whatever the page says; others do.
    """
    assert r"ssh\-keygen \-t ed25519 \-N \(aq\(aq \-f \(ti/.ssh/gymdbd" in page.read_text()
    assert r"gymdbd restore \-\-at " in page.read_text()

"""`gymdbd report`, and the page that a look keeps."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from tests.support.command import gymdbd, gymdbd_json
from tests.support.jobs import gym_config

if TYPE_CHECKING:
    from pathlib import Path


def test_the_command_writes_the_page_of_what_has_run(tmp_path: Path) -> None:
    """A backup stands on it with its verdict, in the calendar of today, and as the last success."""
    path, page = gym_config(tmp_path), tmp_path / "page.html"
    assert gymdbd("-c", path, "backup", "nightly").returncode == 0
    code, told = gymdbd_json("-c", path, "report", "--to", page)
    assert (code, told["file"]) == (0, str(page))
    text = page.read_text()
    assert '<html lang="en">' in text
    assert "<h1" in text
    assert "All is well" in text
    assert "verified" in text
    assert text.count('class="good"') == 2  # Today, and in the legend.
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_a_look_writes_the_page_of_the_configuration(tmp_path: Path) -> None:
    """As the daemon takes it, and as `gymdbd notify` does."""
    notify = {"to": {"nobody": {"command": ["/bin/true"]}}}
    path = gym_config(tmp_path, report={"file": str(tmp_path / "page.html")}, notify=notify)
    assert gymdbd("-c", path, "notify").returncode == 0
    assert "Written at" in (tmp_path / "page.html").read_text()


def test_the_command_asks_for_a_file_or_takes_that_of_the_configuration(tmp_path: Path) -> None:
    """With its language, unless another is named."""
    path = gym_config(tmp_path)
    done = gymdbd("-c", path, "report")
    assert done.returncode == 2
    assert "--to FILE" in done.stderr
    page = tmp_path / "page.html"
    path = gym_config(tmp_path, report={"file": str(page), "language": "ko"})
    assert gymdbd("-c", path, "report").returncode == 0
    assert '<html lang="ko">' in page.read_text()
    assert gymdbd("-c", path, "report", "--language", "en").returncode == 0
    assert '<html lang="en">' in page.read_text()

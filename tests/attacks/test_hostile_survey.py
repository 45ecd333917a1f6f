"""A machine that lies to `gymdbd init --host`: it steers no terminal, and names no file here."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.integration.test_init_pull import Scene, scene
from tests.support import samples

__all__ = ["scene"]

# What a person would take for words of ours, and paste.
_WORDS = "/x/a.db\n\nThis puts it there:\n\nsh -c id"
_LIES: dict[str, dict[str, Any]] = {
    "words": {"path": _WORDS},
    "words in the home": {"home": _WORDS},
    "words in the program": {"program": _WORDS},
    "steered": {"path": "/x/\x1b[2J.db"},
    "turned around": {"path": "/x/\u202e.db"},
    "no file's name": {"path": "/x/\0.db"},
    "no text": {"path": "/x/\ud800.db"},
    "above": {"path": "/x/.."},
    "nothing": {"path": "/"},
    "a number": {"path": 5},
    "a list": {"path": [[]]},
}


def _lie(scene: Scene, **told: Any) -> None:
    """Let the other machine answer whoever looks around with this."""
    scene.allow_login()
    found = {"path": told.pop("path", "/x/gym.db"), "size_bytes": 1, "users": [], "near": True}
    answer = {"home": "/x", "program": "", "python": "", "databases": [found], **told}
    script = scene.server.folder / "liar"
    script.write_text(f"#!{sys.executable}\nprint({json.dumps(answer)!r})\n")
    script.chmod(0o755)
    scene.authorized.write_text(f'restrict,command="{script}" {scene.authorized.read_text()}')


@pytest.mark.parametrize("lie", samples.sample(tuple(_LIES), "lies of a survey", size=3))
def test_what_no_path_can_be_is_not_offered(scene: Scene, lie: str) -> None:
    """The path has to be named, and nothing has changed here; not a word of it is printed."""
    _lie(scene, **_LIES[lie])
    before = scene.here.everything()
    done = scene.here.run("init", "--host", "pi", "--wait", "0s")
    assert (done.returncode, "--remote-database" in done.stderr) == (2, True), done.stderr
    assert [line[:4] for line in done.stdout.splitlines()] == ["host"]
    assert ("sh -c id" in done.stderr, scene.here.everything()) == (False, before)


def test_a_path_with_several_lines_is_told_in_one(scene: Scene) -> None:
    """If a person has named it, too."""
    _lie(scene)
    words = ("init", "--host", "pi", "--remote-database", _WORDS, "--dry-run")
    told = scene.here.run(*words).stdout.splitlines()
    assert [line for line in told if line.startswith(("This puts", "sh -c"))] == []

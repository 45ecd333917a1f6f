"""The shape of the repository."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _tracked() -> set[str]:
    """Return the top-level entries that git knows."""
    if shutil.which("git") is None or not (_ROOT / ".git").exists():
        pytest.skip("not a git clone")
    answer = subprocess.run(
        ["git", "-C", _ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    return {name.partition("/")[0] for name in answer.stdout.split("\0") if name}


def test_the_top_level_is_exact() -> None:
    """Beside dotfiles the top level holds these six entries and nothing else."""
    expected = {
        "README.md",
        "config.example.yaml",
        "deploy",
        "gymdbd",
        "pyproject.toml",
        "tests",
    }
    assert {name for name in _tracked() if not name.startswith(".")} == expected


def test_the_licence_is_an_spdx_expression() -> None:
    """The licence is MIT, as an expression, with no classifier that says it a second time."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "MIT"
    assert [one for one in project["classifiers"] if one.startswith("License")] == []

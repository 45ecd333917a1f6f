"""The shape of the repository, and what the package says about itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from gymdbd import __version__

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


def test_every_folder_of_modules_is_in_the_wheel() -> None:
    """A folder without `__init__.py` is found in a checkout, and missing once installed."""
    folders = {path.parent for path in (_ROOT / "gymdbd").rglob("*.py")}
    assert [str(path) for path in folders if not (path / "__init__.py").exists()] == []


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    return project


def _changelog() -> str:
    return (_ROOT / "deploy" / "docs" / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_an_spdx_expression_with_its_text_in_the_package() -> None:
    """The licence is MIT, with no classifier that repeats it, and its text is shipped."""
    project = _project()
    assert project["license"] == "MIT"
    assert [name for name in project["classifiers"] if name.startswith("License")] == []
    assert project["license-files"] == ["gymdbd/LICENSE"]
    assert (_ROOT / "gymdbd" / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) ")


def test_the_changelog_has_this_version_as_its_newest_release() -> None:
    """What is not released yet is at the top, then comes the version that the package has."""
    headings = re.findall(r"^## (.*)$", _changelog(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = re.fullmatch(r"\[(\S+)\] - \d{4}-\d\d-\d\d", headings[1])
    assert released is not None
    assert released[1] == __version__


def test_the_changelog_keeps_to_its_form() -> None:
    """Every section of a release is one of those that Keep a Changelog knows."""
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", _changelog(), re.MULTILINE)) - known == set()


@pytest.mark.parametrize(
    ("machine", "python", "needed"),
    [
        ("aarch64", "3.11", True),
        ("x86_64", "3.13", True),
        ("arm64", "3.12", True),
        ("armv7l", "3.11", False),
        ("armv8l", "3.13", False),
        ("armv6l", "3.11", False),
        ("aarch64", "3.14", False),
    ],
)
def test_the_zstd_package_is_asked_for_where_it_has_a_wheel(
    machine: str, python: str, *, needed: bool
) -> None:
    """Nobody on 32-bit ARM has to compile it, and Python 3.14 has zstd itself."""
    requirements = [Requirement(text) for text in _project()["dependencies"]]
    (marker,) = [
        requirement.marker for requirement in requirements if requirement.name == "backports.zstd"
    ]
    assert marker is not None
    assert marker.evaluate({"platform_machine": machine, "python_version": python}) == needed

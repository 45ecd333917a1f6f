"""Installed as a tool for one person, by uv and by pipx: from the wheel, and as the README says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from gymdbd import __version__
from tests.e2e import tree
from tests.support import guides
from tests.support.command import ROOT
from tests.support.databases import make_database

_BESIDE_PYTHON = Path(sys.executable).parent


@dataclass
class Tool:
    """A program that installs tools, for a person whose home is `home`."""

    home: Path
    name: str
    wheels: Path

    def type(self, line: str) -> None:
        """Type a line that begins with the name of this program."""
        name, *words = line.split()
        self.run(_BESIDE_PYTHON / name, *words)

    def run(self, *words: object) -> str:
        """Run a command in that home, with a folder of wheels in place of the registry."""
        variables = {
            "HOME": str(self.home),
            "PATH": f"{self.home}/.local/bin:/usr/bin:/bin",
            "PIPX_DEFAULT_PYTHON": sys.executable,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_CONFIG_FILE": str(self.wheels / "uv.toml"),
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
        }
        done = subprocess.run(
            [str(word) for word in words],
            env={"LANG": "C.UTF-8", **variables},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a wheel of this checkout and all that it needs."""
    folder = tree.gymdbd_wheels(tmp_path_factory.mktemp("wheels"))
    (folder / "uv.toml").write_text(f"no-index = true\nfind-links = [{json.dumps(str(folder))}]\n")
    return folder


@pytest.fixture(params=["uv", "pipx"])
def tool(request: pytest.FixtureRequest, wheels: Path, tmp_path: Path) -> Tool:
    """Give each of the programs, as its users have it."""
    if not (_BESIDE_PYTHON / request.param).exists():
        pytest.skip(f"{request.param} is not installed")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the wheels are those for Python 3.11")
    return Tool(tmp_path, request.param, wheels)


def test_the_wheel_installs_as_a_tool_that_backs_up(tool: Tool) -> None:
    """It has its version, shows the demo, makes a verified backup, and goes without a trace.

    pipx puts the manual page where man finds it; uv has no place for such pages.
    """
    (wheel,) = tool.wheels.glob("gymdbd-*.whl")
    command = {"uv": "uv tool", "pipx": "pipx"}[tool.name]
    tool.type(f"{command} install {wheel}")
    assert (tool.home / ".local/share/man/man1/gymdbd.1").exists() == (tool.name == "pipx")
    assert tool.run("gymdbd", "--version") == f"gymdbd {__version__}\n"
    assert "gym_system_backup_" in tool.run("gymdbd", "demo")
    database = make_database(tool.home / "gym.db")
    done = json.loads(
        tool.run("gymdbd", "backup", "--database", database, "--archive", "archive", "--json")
    )
    assert done["state"] == "ok"
    verified = json.loads(tool.run("gymdbd", "verify", "--archive", "archive", "--json"))
    assert verified["state"] == "ok"
    tool.type(f"{command} uninstall gymdbd")
    assert not list(tool.home.glob(".local/bin/gymdbd"))

    # In a clone, with the line of the README: the wheel is built on the way.
    tree.checkout(tool.home)
    (line,) = re.findall(f"`({command} install .*?)`", guides.read("README.md"))
    tool.type(line)
    assert tool.run("gymdbd", "--version") == f"gymdbd {__version__}\n"


def test_the_wheel_has_what_travels_and_what_the_law_wants(wheels: Path) -> None:
    """The sources that a pull sends, the licence, the page: and nothing of the tests."""
    (wheel,) = wheels.glob("gymdbd-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "gymdbd").rglob("*.py")}
    assert there - names == set()
    others = {name.partition("/")[2] for name in names - there}
    assert {"licenses/gymdbd/LICENSE", "data/share/man/man1/gymdbd.1"} - others == set()
    assert [name for name in names if name.startswith(("tests/", "deploy/"))] == []

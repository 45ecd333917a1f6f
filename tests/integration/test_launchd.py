"""The launchd agent and its installer, as far as a machine without launchd can judge them."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gymdbd import cli
from gymdbd.commands import run
from gymdbd.config.config import Config

_FOLDER = Path(__file__).parents[2] / "deploy" / "launchd"
_PLIST = _FOLDER / "io.github.gymdbd.plist"
_INSTALL = _FOLDER / "install.sh"  # it calls the one in deploy/


def _run_installer(home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_INSTALL, *flags],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _written(output: str) -> dict[str, Any]:
    """Return the property list that a dry run printed."""
    start, end = output.index("<?xml"), output.index("</plist>") + len("</plist>")
    return dict(plistlib.loads(output[start:end].encode()))


@pytest.fixture
def agent() -> dict[str, Any]:
    """Return the agent as it is shipped."""
    return dict(plistlib.loads(_PLIST.read_bytes()))


def test_the_agent_starts_at_login_and_again_after_a_failure(agent: dict[str, Any]) -> None:
    """A daemon that failed is started anew, not too often; one that was told to stop is not."""
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ThrottleInterval"] >= 10


def test_the_agent_is_named_like_its_file(agent: dict[str, Any]) -> None:
    """Nobody has to look into the file to know what launchctl calls it."""
    assert agent["Label"] == _PLIST.stem


def test_the_agent_leaves_the_machine_to_its_user(agent: dict[str, Any]) -> None:
    """Processor and disk serve others first, but are not throttled; files are its user's only."""
    assert agent["ProcessType"] == "Standard"
    assert agent["Nice"] == 10
    assert agent["LowPriorityIO"] is True
    assert agent["Umask"] == 0o077


def test_the_agent_finds_the_programs_that_a_pull_may_start(agent: dict[str, Any]) -> None:
    """The system's folders and Homebrew's are in the PATH, which launchd leaves almost empty."""
    folders = agent["EnvironmentVariables"]["PATH"].split(":")
    assert {"/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"} <= set(folders)


def test_a_stop_of_the_agent_waits_for_longer_than_stop_timeout(agent: dict[str, Any]) -> None:
    """The daemon ends its runs itself, by the default stop_timeout, before launchd would."""
    assert agent["ExitTimeOut"] > Config.stop_timeout.total_seconds()


def test_the_installed_agent_names_the_paths_of_its_user(tmp_path: Path) -> None:
    """No placeholder and no ~ is left, whatever XML, sed and the shell make of the home folder."""
    home = tmp_path / "A & B|<c>\\d 'e' --f"
    home.mkdir()
    done = _run_installer(home, "--dry-run")
    assert done.returncode == 0, done.stderr
    agent = _written(done.stdout)
    assert agent["ProgramArguments"] == [
        f"{home}/.local/share/gymdbd/bin/gymdbd",
        "-c",
        f"{home}/.config/gymdbd/config.yaml",
        "run",
    ]
    logs = f"{home}/Library/Logs/gymdbd"
    assert [agent["StandardOutPath"], agent["StandardErrorPath"]] == [
        f"{logs}/stdout.log",
        f"{logs}/stderr.log",
    ]
    assert agent["WorkingDirectory"] == str(home)
    assert "@" not in str(agent)


def test_the_agent_calls_the_command_line_as_it_is() -> None:
    """What launchd will start is a command that gymdbd understands."""
    arguments = plistlib.loads(_PLIST.read_bytes())["ProgramArguments"][1:]
    parsed = cli.parser_for(arguments).parse_args(arguments)
    assert (str(parsed.config), parsed.run) == ("@CONFIG@", run.run)


@pytest.mark.parametrize("flags", [["--dry-run"], ["--dry-run", "--uninstall"]])
def test_a_dry_run_changes_nothing(tmp_path: Path, flags: list[str]) -> None:
    """Whatever is asked for, the home folder is as it was."""
    done = _run_installer(tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert "would run:" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_given_paths_are_made_absolute(tmp_path: Path) -> None:
    """The agent starts in another folder than its user, so relative paths would miss."""
    done = _run_installer(tmp_path, "--dry-run", "--venv", "v", "--config", "c d.yaml")
    arguments = _written(done.stdout)["ProgramArguments"]
    assert arguments[:3] == [f"{Path.cwd()}/v/bin/gymdbd", "-c", f"{Path.cwd()}/c d.yaml"]


@pytest.mark.skipif(shutil.which("launchctl") is not None, reason="this would install it")
def test_without_launchd_the_installer_refuses(tmp_path: Path) -> None:
    """On another system it says so and does nothing."""
    done = _run_installer(tmp_path)
    assert (done.returncode, "launchctl" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["--dryrun"], ["--database", "gym.db"], ["venv", "v"], ["--"], ["--config"]]
)
def test_an_argument_that_the_agents_installer_does_not_know_is_refused(
    tmp_path: Path, words: list[str]
) -> None:
    """A misspelt flag, one of the Pi's, or one without its value does not install anything."""
    done = _run_installer(tmp_path, *words)
    assert (done.returncode, f"{words[0]} " in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_no_fault_in_the_scripts() -> None:
    """No installer, no script of the package nor the test runner has a fault that it knows."""
    scripts = [_INSTALL, _FOLDER.parent / "install.sh", _FOLDER.parents[1] / "tests" / "run"]
    scripts += set((_FOLDER.parent / "debian").iterdir()) - {_FOLDER.parent / "debian/README.md"}
    done = subprocess.run(
        ["shellcheck", "--external-sources", "--check-sourced", *scripts],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == ""

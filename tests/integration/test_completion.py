"""Tab: what the shells offer after `gymdbd`, asked of real ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gymdbd import commands
from tests.support.command import ROOT, environment, gymdbd
from tests.support.databases import backups, make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

# Calls what bash would at Tab, as bash would.
_TAB = """
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9
read -ra COMP_WORDS <<<"$2"
$(complete -p gymdbd | sed 's/.* -F \\([^ ]*\\) .*/\\1/') gymdbd
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Give a folder with gymdbd on the PATH, its scripts, a configuration and a backup."""
    program = tmp_path / "bin/gymdbd"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from gymdbd.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    for shell in ("bash", "zsh", "fish"):
        done = gymdbd("completion", shell)
        assert done.stderr == ""
        (tmp_path / shell).write_text(done.stdout)
    (tmp_path / "archive").mkdir()
    backup = {
        "every": "1d",
        "database": str(make_database(tmp_path / "gym.db")),
        "archive": str(tmp_path / "archive"),
    }
    pull = {
        "kind": "pull",
        "every": "1d",
        "host": "pi",
        "remote_database": "/gym.db",
        "replica": str(tmp_path / "replica.db"),
    }
    write_config(tmp_path, {"nightly": backup, "hourly": backup, "from-pi": pull})
    return tmp_path


def run(there: Path, *words: str) -> list[str]:
    """Run a shell in that folder, with that gymdbd; return the words that it prints."""
    path = f"{there / 'bin'}:{environment()['PATH']}"
    done = subprocess.run(
        words,
        cwd=there,
        env=environment(PATH=path, HOME=str(there), GYMDBD_CONFIG=str(there / "config.yaml")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def tab(there: Path, line: str) -> list[str]:
    """Return what bash offers at the end of `line`."""
    return sorted(run(there, "bash", "--norc", "-c", _TAB, "bash", str(there / "bash"), line))


def test_bash_completes_verbs_and_flags(there: Path) -> None:
    """All verbs after the name; the flags of a verb after a dash; a choice of a flag."""
    assert tab(there, "gymdbd ") == sorted(commands.VERBS)
    assert tab(there, "gymdbd sche") == ["schedule"]
    assert tab(there, "gymdbd backup --keep-c") == ["--keep-count"]
    assert tab(there, "gymdbd pull --method ") == ["query", "scp"]
    assert tab(there, "gymdbd completion ") == ["bash", "fish", "zsh"]


def test_bash_completes_the_jobs_that_a_verb_takes(there: Path) -> None:
    """Those of the configuration found or named, and only of the verb's kind."""
    assert tab(there, "gymdbd backup ") == ["hourly", "nightly"]
    assert tab(there, "gymdbd prune n") == ["nightly"]
    assert tab(there, "gymdbd pull ") == ["from-pi"]
    (there / "config.yaml").rename(there / "other.yaml")
    assert tab(there, "gymdbd backup ") == []
    assert tab(there, "gymdbd -c other.yaml backup ho") == ["hourly"]


def test_bash_completes_backups(there: Path) -> None:
    """By name, from the archives of the configuration or from the one that is named."""
    assert tab(there, "gymdbd keep gym_") == []
    gymdbd("-c", there / "config.yaml", "backup", "nightly")
    names = [path.name for path in backups(there / "archive")]
    assert len(names) == 1
    assert tab(there, "gymdbd keep gym_") == names
    (there / "config.yaml").unlink()
    assert tab(there, "gymdbd keep --archive archive gym_") == names


def test_bash_completes_the_time_of_a_backup_that_was_begun(there: Path) -> None:
    """From its digits, in every place that takes a backup; after --at the words for times."""
    gymdbd("-c", there / "config.yaml", "backup", "nightly")
    stamps = [path.stem.removeprefix("gym_backup_") for path in backups(there / "archive")]
    assert tab(there, "gymdbd restore 2") == stamps
    assert tab(there, "gymdbd diff 2") == stamps
    assert tab(there, "gymdbd drill 2") == stamps
    assert tab(there, "gymdbd rebuild --backup 2") == stamps
    assert tab(there, "gymdbd rescue --at y") == ["yesterday"]


def test_bash_completes_files_and_folders(there: Path) -> None:
    """A path where the help says PATH, folders only where it says DIR."""
    assert tab(there, "gymdbd backup --database gy") == ["gym.db"]
    assert tab(there, "gymdbd list --archive a") == ["archive/"]
    assert tab(there, "gymdbd -c conf") == ["config.yaml"]


def test_a_faulty_configuration_leaves_the_shell_in_peace(there: Path) -> None:
    """Nothing is offered and nothing is printed into the line that is being typed."""
    (there / "config.yaml").write_text("jobs: [\n")
    assert tab(there, "gymdbd backup ") == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_with_descriptions(there: Path) -> None:
    """The verbs come with the first line of their help."""
    found = run(there, "fish", "--no-config", "-c", "source fish; complete -C 'gymdbd sched'")
    assert found[:3] == ["schedule", "print", "the"]
    jobs = run(there, "fish", "--no-config", "-c", "source fish; complete -C 'gymdbd pull '")
    assert jobs == ["from-pi"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_its_script(there: Path) -> None:
    """It has no fault of syntax, and takes over the completion of gymdbd."""
    assert run(there, "zsh", "-n", "zsh") == []
    asked = "autoload -U compinit; compinit -D -u; source ./zsh; print $_comps[gymdbd]"
    assert run(there, "zsh", "-f", "-c", asked) == ["_python_argcomplete"]

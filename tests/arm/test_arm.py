"""gymdbd on the Pi's processors: installed from wheels alone, at work, and the source of a pull."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.arm import emulated
from tests.support import ledger
from tests.support.pulling import Peer
from tests.support.sshd import SshServer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.arm.emulated import Arm

pytestmark = pytest.mark.timeout(14_400)

_INSTANCE = "/home/pi/gym/instance"
_DATABASE = f"{_INSTANCE}/gym.db"
_ARCHIVE = "/home/pi/gym/backups"
_REPLICA = "/home/pi/gym/replica.db"
_HERE = "env -C /home/pi/gymdbd PYTHONPATH=/home/pi/gymdbd /opt/gymdbd/bin/python"
_CREATE = """
import sys
from pathlib import Path
from tests.support import ledger
ledger.create(Path(sys.argv[1]))
"""
_PULLS = 8
# These need what speaks SSH.
_SSH_TESTS = ["tests/unit/test_remote_target.py"]


@dataclasses.dataclass(frozen=True)
class Installed:
    """A machine with gymdbd on it, and what the installer said."""

    arm: Arm
    said: str

    def gymdbd(self, *words: object, user: str = "pi") -> str:
        """Run gymdbd there to a good end, and return what it printed."""
        return self.arm.run("gymdbd", *words, user=user).stdout


@pytest.fixture(scope="module")
def installed(arm: Arm) -> Installed:
    """Give the machine with a ledger of pi's, and gymdbd installed from the folder of wheels."""
    arm.run("mkdir", "-p", _INSTANCE, user="pi")
    installer = ["/home/pi/gymdbd/deploy/install.sh", "--wheels", "/home/pi/wheels"]
    # Before the database is there: what makes it needs gymdbd's environment.
    done = arm.run(*installer, "--database", _DATABASE, "--archive", _ARCHIVE)
    arm.run(*shlex.split(_HERE), "-c", _CREATE, _DATABASE, user="pi")
    return Installed(arm, done.stdout)


def _speaks_ssh(there: Installed) -> bool:
    return (
        there.arm.run("/opt/gymdbd/bin/python", "-c", "import paramiko", check=False).returncode
        == 0
    )


def test_it_is_installed_from_wheels_alone(installed: Installed) -> None:
    """As the owner of the folder; on 32-bit ARM without what speaks SSH, which is said."""
    kind = emulated.MACHINES[installed.arm.architecture]
    assert installed.arm.run("uname", "-m").stdout.strip() == kind
    assert "gymdbd runs as pi" in installed.said
    complete = kind == "aarch64"
    assert (_speaks_ssh(installed), "pulls nothing" in installed.said) == (complete, not complete)
    assert installed.arm.run("stat", "-c", "%U %a", _ARCHIVE).stdout == "pi 700\n"


def test_the_demo_ends_well(installed: Installed) -> None:
    """It backs up, damages and restores a database of its own."""
    assert "gym_system_backup_" in installed.gymdbd("demo")


def test_a_backup_under_a_writer_is_restored(installed: Installed, tmp_path: Path) -> None:
    """Copied to this machine, the restored database is whole."""
    with _writing(installed.arm):
        told = json.loads(installed.gymdbd("backup", "--json"))
    assert told["state"] == "ok"
    installed.gymdbd("restore", "latest", "--to", "/home/pi/restored.db")
    restored = tmp_path / "restored.db"
    restored.write_bytes(installed.arm.path("/home/pi/restored.db").read_bytes())
    assert ledger.check_copy(restored).problems == ()


def test_every_pull_from_it_under_a_writer_is_whole_and_fresh(
    installed: Installed, tmp_path: Path
) -> None:
    """By a restricted key, which runs gymdbd there, and by its python3, which runs what is sent."""
    arm = installed.arm
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec {shlex.join(arm.words("python3", user="pi"))} "$@"\n')
    python.chmod(0o755)
    serve = arm.words("gymdbd", "serve", "--database", _DATABASE, user="pi")
    strategies = []
    with (
        SshServer(tmp_path / "sshd") as open_to_all,
        SshServer(tmp_path / "forced", forced_command=shlex.join(serve)) as restricted,
        _writing(arm),
    ):
        for number in range(_PULLS):
            server = (restricted, open_to_all)[number % 2]
            peer = Peer(server, Path(_DATABASE), tmp_path / "replica.db")
            before = int(
                arm.run("sqlite3", _DATABASE, "SELECT commits FROM totals", user="pi").stdout
            )
            result = peer.pull(ssh={"python": str(python)}, backup_before=False)
            strategies.append(result.strategy)
            copy = ledger.check_copy(peer.replica)
            assert (copy.problems, copy.commits >= before) == ((), True)
    assert strategies[0] == "full"


def test_a_pull_there_works_or_says_what_is_missing(installed: Installed) -> None:
    """Where what speaks SSH is installed, it is the host that is missing."""
    job = ["--host", "nowhere.invalid", "--remote-database", "/gym.db", "--replica", _REPLICA]
    done = installed.arm.run("gymdbd", "pull", *job, "--json", user="pi", check=False)
    expected = "host-not-found" if _speaks_ssh(installed) else "library-missing"
    assert json.loads(done.stdout)["code"] == expected


def test_the_unit_tests_pass(installed: Installed) -> None:
    """All of them, but those of what is not installed, and one that meets the emulator itself."""
    arm = installed.arm
    arm.run("python3", "-m", "venv", "/home/pi/venv")
    wheels = ["--find-links", "/home/pi/wheels", "--find-links", "/home/pi/test-wheels"]
    pip = ["/home/pi/venv/bin/python", "-m", "pip", "install", "--quiet", "--no-index", *wheels]
    arm.run(*pip, "gymdbd", *emulated.TESTS)
    left_out = [f"--ignore={name}" for name in _SSH_TESTS if not _speaks_ssh(installed)]
    words = ["env", "-C", "/home/pi/gymdbd", "/home/pi/venv/bin/python", "-m", "pytest", "-q"]
    options = ["-n", "2", "--timeout", "3600", *left_out]
    done = arm.run(*words, "tests/unit", *options, check=False, timeout_s=14_000)
    assert done.returncode == 0, done.stdout[-20_000:]


def _writing(arm: Arm) -> AbstractContextManager[int]:
    python = arm.words(*shlex.split(_HERE), user="pi")
    return ledger.writing(Path(_DATABASE), python=python)

"""The stage: where it can stand, and the machines on it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import tree
from tests.e2e.guest import guest, sweep
from tests.e2e.mac import Mac
from tests.e2e.network import office
from tests.e2e.pi import Pi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.network import Office

# Whichever story comes first builds the stage as well, from what the network has to bring.
_TIMEOUT_S = 900
_HERE = Path(__file__).parent
_PROGRAMS = ("debootstrap", "ip", "nsenter", "setpriv", "ssh-keygen", "systemd-nspawn", "unshare")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the stories the time that the longest may take."""
    for item in items:
        if item.path.parent == _HERE:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


def _obstacle() -> str:
    """Say why this machine cannot be the stage; empty where it can."""
    if os.geteuid() != 0:
        return "booting a machine needs root"
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return "this root is root in a user namespace only, and may not boot a machine"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    command = ["unshare", "--net", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return "this root may not mount, as in many containers"
    return ""


@dataclass
class Stage:
    """What every story starts from: the tree, and the wheels."""

    tree: Path
    wheels: Path
    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.contextmanager
    def pi(self, *layers: Path, place: Office | None = None) -> Iterator[Pi]:
        """Make a Pi, switched off, with these layers over the tree, in a network of its own.

        With `place` it stands where another one stood.
        """
        folder = self.folder / f"pi{next(self.numbers)}"
        with contextlib.ExitStack() as stack:
            where = place or stack.enter_context(office())
            machine = stack.enter_context(guest((*layers, self.tree), folder, where.pi))
            yield Pi(machine, where)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Build what can be built once."""
    if reason := _obstacle():
        pytest.skip(reason)
    sweep()
    folder = tmp_path_factory.mktemp("stage")
    return Stage(tree.build(), tree.gymdbd_wheels(folder), folder)


@pytest.fixture
def fresh(stage: Stage) -> Iterator[Pi]:
    """Give a Pi on which gymdbd is not installed, with what one needs for it in /home/pi."""
    with stage.pi() as pi:
        pi.machine.boot()
        pi.unpack(stage.wheels)
        pi.start_gym()
        yield pi


@pytest.fixture(scope="session")
def installed(stage: Stage) -> Path:
    """Give the layer that an installation leaves, the machine being off again."""
    with stage.pi() as pi:
        pi.machine.boot()
        pi.unpack(stage.wheels)
        pi.start_gym()
        pi.install()
        pi.machine.sh("systemctl stop gymdbd gym; journalctl --sync; sync -f /var/log")
    return pi.machine.upper


@pytest.fixture
def bootable(stage: Stage, installed: Path) -> Iterator[Pi]:
    """Give a Pi of its own with gymdbd installed, switched off."""
    with stage.pi(installed) as pi:
        yield pi


@pytest.fixture(scope="session")
def shared(stage: Stage, installed: Path) -> Iterator[Pi]:
    """Give the Pi that the stories share which leave it as they found it."""
    with stage.pi(installed) as pi:
        pi.machine.boot()
        yield pi


@pytest.fixture
def pi(shared: Pi) -> Iterator[Pi]:
    """Give the shared Pi: configured as installed, nothing backed up yet, the gym at work."""
    shared.reset()
    yield shared
    shared.machine.run("systemctl", "stop", "gymdbd", "gym", check=False)


@pytest.fixture
def mac(pi: Pi, tmp_path: Path) -> Iterator[Mac]:
    """Give the Mac beside that Pi, which does not know its key yet."""
    mac = Mac(pi.office.mac, tmp_path, pi.host_key)
    yield mac
    mac.end()

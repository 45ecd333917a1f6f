"""Debian for the Pi's processors, on this one: each program of it runs in an emulator.

The kernel starts qemu-user-static for every program of the other processor (binfmt_misc). What such
a machine cannot show is in tests/README.md.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e import tree
from tests.support.command import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("debootstrap", "nsenter", "qemu-aarch64-static", "qemu-arm-static", "unshare")
# How Debian, pip and qemu call each.
MACHINES = {"arm64": "aarch64", "armhf": "armv7l"}
_EMULATORS = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
_PACKAGES = "openssh-client,procps,python3,python3-venv,sqlite3,systemd,tzdata"
_DEFAULT_MIRROR = "http://deb.debian.org/debian"
_FORMATS = Path("/proc/sys/fs/binfmt_misc")
TESTS = ("flask", "hypothesis", "packaging", "pytest", "pytest-timeout", "pytest-xdist", "waitress")
_BUILD = """
set -e
debootstrap --foreign --arch="$2" --variant=minbase --include="$3" bookworm "$1" "$4"
chroot "$1" /debootstrap/debootstrap --second-stage
chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 pi
rm -rf "$1"/var/cache/apt/*
"""
# The mounts end with the first process of the namespaces, and that with the tests.
_STAND = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount -t tmpfs tmpfs "$2/root/tmp"
mkdir -p "$2/root/dev/shm"
mount -t tmpfs tmpfs "$2/root/dev/shm"
echo ready
exec sleep infinity
"""
_ALONE = ["unshare", "--mount", "--pid", "--propagation=private", "--fork", "--kill-child"]
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Arm:
    """A machine with a processor of the Pi's, as far as programs and files go."""

    architecture: str
    root: Path
    leader: int

    def words(self, *command: object, user: str = "root") -> list[str]:
        """Return the command of this machine that runs a command on that one."""
        return [
            *("nsenter", f"--target={self.leader}", "--mount", "--pid", "--"),
            *("chroot", f"--userspec={user}", str(self.root), "env", "-i", _PATH),
            *("LANG=C.UTF-8", f"HOME={'/root' if user == 'root' else f'/home/{user}'}"),
            *map(str, command),
        ]

    def run(
        self, *command: object, user: str = "root", check: bool = True, timeout_s: float = 1800
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and with `check` fail the test with what it said."""
        words = self.words(*command, user=user)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout_s)
        said = f"{shlex.join(words)}: {done.stdout[-6000:]}{done.stderr[-6000:]}"
        assert not check or done.returncode == 0, said
        return done

    def path(self, name: str) -> Path:
        """Return where a file of that machine is in the mounts that only its processes see."""
        return Path(f"/proc/{self.leader}/root{self.root}{name}")

    def put(self, source: Path, target: str) -> None:
        """Copy a folder there, for the user pi."""
        shutil.copytree(source, self.path(target), dirs_exist_ok=True)
        self.run("chown", "-R", "pi:pi", target)


@contextlib.contextmanager
def machine(architecture: str, folder: Path) -> Iterator[Arm]:
    """Stand up a machine whose disk is the tree with a layer in `folder` over it."""
    _register(architecture)
    lower = _tree(architecture)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    command = [*_ALONE, "sh", "-c", _STAND, "sh", str(lower), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield Arm(architecture, folder / "root", int(children.split()[0]))
        finally:
            process.kill()


def unpack(arm: Arm, folder: Path) -> None:
    """Put this checkout, its wheels and those of the tests into the home of pi."""
    kind = MACHINES[arm.architecture]
    with tempfile.TemporaryDirectory() as name:
        tree.checkout(Path(name))
        shutil.copytree(ROOT / "tests", Path(name) / "tests", ignore=_unneeded)
        arm.put(Path(name), "/home/pi/gymdbd")
    arm.put(tree.gymdbd_wheels(folder, kind), "/home/pi/wheels")
    arm.put(tree.wheels("tests", TESTS, kind), "/home/pi/test-wheels")


_unneeded = shutil.ignore_patterns("__pycache__", "results", "e2e", "faults", "integration")


def _tree(architecture: str) -> Path:
    def build(folder: Path) -> None:
        command = [*_ALONE, "sh", "-c", _BUILD, "sh", folder, architecture, _PACKAGES, _mirror()]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, timeout=7200
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    return tree.kept(f"bookworm-{architecture}", f"{_PACKAGES}{_BUILD}", build)


def _mirror() -> str:
    """Return the mirror of Debian that this machine's own packages come from."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = [line.split(" ", 2) for line in done.stdout.splitlines()]
    mirrors = [words[2] for words in found if words[:2] == ["Debian", "bookworm"]]
    return mirrors[0] if mirrors else _DEFAULT_MIRROR


def _register(architecture: str) -> None:
    """Let the kernel know the emulator, as systemd-binfmt does where systemd runs."""
    if not (_FORMATS / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_FORMATS)], check=True)
    emulator = _EMULATORS[architecture]
    if not (_FORMATS / emulator).exists():
        text = Path(f"/usr/lib/binfmt.d/{emulator}.conf").read_text()
        (_FORMATS / "register").write_text(text.strip())

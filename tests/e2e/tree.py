"""The Pi as it comes out of its box: a Debian bookworm tree, built once and kept.

Raspberry Pi OS bookworm has the same systemd, Python 3.11 and SQLite 3.40. The gym's application
is in it, as a service; gymdbd is not. It serves as the lower layer of an overlay, so that nothing
ever writes to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from tests.support.command import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = (
    "dbus,iproute2,libfaketime,openssh-server,procps,python3,python3-venv,sqlite3,sudo,"
    "systemd,systemd-sysv,tzdata"
)
_APPLICATION = ("flask", "waitress")
# What an installation from the checkout itself builds with.
_BUILDER = "setuptools>=77"
# Has no wheel on the registry, only its source; it is pure Python, so that any Python builds it.
_WITHOUT_WHEEL = ("sdnotify",)
_GLIBC = ("2014", "_2_28", "_2_31", "_2_34")
_SETUP = r"""
set -eu
useradd --create-home --shell /bin/bash --uid 1000 pi
echo 'pi ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/pi
ln -sf /usr/share/zoneinfo/Asia/Seoul /etc/localtime
echo Asia/Seoul >/etc/timezone
echo raspberry-pi >/etc/hostname
# What was logged before a power cut is to be read after it.
mkdir -p /var/log/journal
cd /home/pi
runuser -u pi -- mkdir -p gym-controller/instance
runuser -u pi -- python3 -m venv gym-controller/venv
runuser -u pi -- gym-controller/venv/bin/pip install --quiet --no-index --find-links /wheels \
    flask waitress
cat >/etc/systemd/system/gym.service <<'UNIT'
[Unit]
Description=the gym's application
[Service]
User=pi
WorkingDirectory=/home/pi/gym-controller
# It serves for as long as its standard input is open.
ExecStart=/bin/sh -c 'tail -f /dev/null | exec venv/bin/python flask_app.py \
    instance/gym_system.db --port 8000'
UNIT
rm -rf /var/cache/apt/* /var/lib/apt/lists/*
"""


def cache() -> Path:
    """Return the folder for what is expensive to make and stays right."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "gymdbd-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build() -> Path:
    """Return the tree, after some two minutes of building it where it is not there yet."""
    recipe = "\n".join((_MIRROR, _PACKAGES, _SETUP, *_APPLICATION))
    return kept("bookworm", recipe, _make)


def kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` has filled by this recipe, now or in an earlier run."""
    folder = cache() / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with _alone(cache() / f".{folder.name}.lock"):
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.partial")
            # What an interrupted build left.
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(folder)
    return folder


def _make(tree: Path) -> None:
    _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", tree, _MIRROR)
    shutil.copytree(application_wheels(), tree / "wheels")
    _run("unshare", "--pid", "--fork", "--mount-proc", "chroot", tree, "/bin/sh", "-c", _SETUP)
    shutil.rmtree(tree / "wheels")


def application_wheels() -> Path:
    """Return the wheels of the gym's application, for the guest's Python."""
    return wheels("application", _APPLICATION)


def gymdbd_wheels(folder: Path, machine: str = platform.machine()) -> Path:
    """Make a wheel of this checkout in `folder`, and put all that it needs on a machine beside it.

    It is what the deploy README tells people to do for a machine without a network.
    """
    extra = requirements(machine, "notify")
    needed = wheels("gymdbd", (*requirements(machine), *extra, _BUILDER), machine)
    shutil.copytree(needed, folder / "wheels")
    shutil.copy(gymdbd_wheel(folder / "gymdbd"), folder / "wheels")
    return folder / "wheels"


def requirements(machine: str, extra: str = "") -> list[str]:
    """Return what gymdbd needs on Python 3.11 of a machine, or what one of its extras needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
    place = {"platform_machine": machine, "python_version": "3.11"}
    found = [Requirement(text) for text in texts]
    return [
        f"{one.name}{one.specifier}"
        for one in found
        if one.marker is None or one.marker.evaluate(place)
    ]


def gymdbd_wheel(folder: Path, *, version: str = "") -> Path:
    """Make a wheel of this checkout in `folder`, on wish with another version number."""
    with tempfile.TemporaryDirectory() as name:
        # In a copy: the build leaves its own files beside the sources.
        copy = Path(name)
        checkout(copy)
        if version:
            (copy / "gymdbd" / "__init__.py").write_text(
                f'"""gymdbd."""\n\n__version__ = "{version}"\n'
            )
        _pip("wheel", "--no-deps", "--wheel-dir", folder, copy)
    return next(folder.glob("gymdbd-*.whl"))


def checkout(folder: Path) -> None:
    """Copy what is needed to install from this checkout."""
    for name in ("gymdbd", "deploy"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "config.example.yaml"):
        shutil.copy(ROOT / name, folder)


def wheels(name: str, wanted: Sequence[str], machine: str = platform.machine()) -> Path:
    """Return a folder with the wheels of `wanted` and of all they need, from the registry."""

    def download(folder: Path) -> None:
        options = ("--no-deps", "--wheel-dir", folder)
        _pip("wheel", *options, *_WITHOUT_WHEEL)
        if machine.startswith("armv"):
            _pip("wheel", *options, "--no-binary", "pyyaml", "pyyaml", PYYAML_FORCE_LIBYAML="0")
        platforms = [f"--platform=manylinux{glibc}_{machine}" for glibc in _GLIBC]
        _pip(
            *("download", "--only-binary=:all:", "--python-version=3.11", *platforms),
            *("--find-links", folder, "--dest", folder, *wanted),
        )

    return kept(f"wheels-{name}", "\n".join((*_WITHOUT_WHEEL, machine, *wanted)), download)


def _pip(*arguments: object, **extra: str) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, **extra)


def _run(*command: object, **extra: str) -> None:
    words, environment = [str(word) for word in command], {**os.environ, **extra}
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep a second run of the tests from building the same."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

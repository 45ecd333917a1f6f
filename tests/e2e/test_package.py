"""The Debian package on a Pi that has never seen gymdbd: installed, set up, upgraded, purged."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd import __version__
from tests.e2e.pi import ARCHIVE, CONFIG, DATABASE, HOME, JOB, STATE, STATUS
from tests.support import samples
from tests.support.command import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Stage
    from tests.e2e.pi import Pi

_NEWER = "99.0"
_BUILD = ROOT / "deploy/debian/build.sh"
_DROP_INS = "/etc/systemd/system/gymdbd.service.d"
_INSTALL_SH = "/home/pi/gymdbd/deploy/install.sh"
# Before the first file is replaced, the newer package looks whether the service rests.
_LOOK = "systemctl is-active gymdbd >/run/seen-by-preinst || true\n"


def _run(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(stage: Stage) -> Path:
    """Build the package from the wheels that the other stories install."""
    return Path(_run(_BUILD, "--wheels", stage.wheels, "--output", stage.folder).strip())


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a package of a higher version, which looks at the service before it is unpacked."""
    folder = tmp_path_factory.mktemp("newer")
    root = folder / "root"
    _run("dpkg-deb", "-R", package, root)
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {__version__}", f"Version: {_NEWER}"))
    with (root / "DEBIAN/preinst").open("a") as preinst:
        preinst.write(_LOOK)
    (code,) = root.glob("opt/gymdbd/lib/python3.*/site-packages/gymdbd/__init__.py")
    code.write_text(code.read_text().replace(f'"{__version__}"', f'"{_NEWER}"'))
    for compiled in (code.parent / "__pycache__").glob("__init__.*"):
        compiled.unlink()
    _run("dpkg-deb", "--root-owner-group", "-Znone", "-b", root, folder / "newer.deb")
    return folder / "newer.deb"


@pytest.fixture
def box(stage: Stage, package: Path) -> Iterator[Pi]:
    """Give a Pi without gymdbd, at work, with the package and a checkout in /home/pi."""
    with stage.pi() as pi:
        pi.machine.boot()
        pi.unpack(stage.wheels)
        _bring(pi, package)
        pi.start_gym()
        yield pi


def _bring(pi: Pi, package: Path) -> str:
    path = f"/home/pi/{package.name}"
    shutil.copy(package, pi.machine.path(path))
    return path


def _apt(pi: Pi, *words: str, check: bool = True) -> str:
    done = pi.machine.run("apt-get", "-y", *words, check=check)
    return done.stdout + done.stderr


def test_a_package_is_installed_set_up_upgraded_and_purged(
    box: Pi, package: Path, newer: Path
) -> None:
    """Each step leaves what the page of the package says, and no step loses anybody's file."""
    told = _apt(box, "install", f"/home/pi/{package.name}")
    assert "backs nothing up yet; next: sudo gymdbd-setup --database FILE" in told
    _is_there_and_rests(box)
    _is_set_up(box)
    _is_of_dpkg_alone(box)
    _is_upgraded(box, _bring(box, newer))
    kept = _write_what_is_missed(box)
    _is_removed_and_comes_back(box, _bring(box, newer))
    _is_purged(box, kept)


def _is_there_and_rests(pi: Pi) -> None:
    """Nothing runs, nothing is enabled, and everything that a person looks for is there."""
    machine = pi.machine
    assert (pi.show("ActiveState"), pi.show("UnitFileState")) == ("inactive", "disabled")
    assert machine.run("gymdbd", "--version", user="pi").stdout == f"gymdbd {__version__}\n"
    assert "gym_system_backup_" in machine.run("gymdbd", "demo", user="pi").stdout
    machine.sh(
        """
        test -s /etc/gymdbd/config.example.yaml
        test -s /usr/share/doc/gymdbd/config.example.yaml
        zcat /usr/share/man/man1/gymdbd.1.gz | grep -q 'TH GYMDBD 1'
        zcat /usr/share/man/man8/gymdbd-setup.8.gz | grep -q 'database FILE'
        . /usr/share/bash-completion/completions/gymdbd
        complete -p gymdbd >/dev/null
        grep -q 'compdef gymdbd' /usr/share/zsh/vendor-completions/_gymdbd
        grep -q gymdbd /usr/share/fish/vendor_completions.d/gymdbd.fish
        """
    )
    # Without a configuration an upgrade, too, starts nothing.
    machine.sh("dpkg-reconfigure gymdbd 2>/dev/null || dpkg --configure -a")
    assert pi.show("ActiveState") == "inactive"


def _is_set_up(pi: Pi) -> None:
    """As by install.sh: the service is the database's owner, and its first backup is good."""
    machine = pi.machine
    refused = machine.run("gymdbd-setup", user="pi", check=False)
    assert (refused.returncode, refused.stderr) == (
        1,
        "gymdbd-setup: run it as root: sudo gymdbd-setup\n",
    )
    machine.run("gymdbd-setup", "--database", DATABASE, "--archive", ARCHIVE)
    assert (pi.show("ActiveState"), pi.show("UnitFileState")) == ("active", "enabled")
    assert pi.show("User") == "pi"
    assert pi.show("FragmentPath").endswith("/lib/systemd/system/gymdbd.service")
    backup = pi.gymdbd("backup", JOB)
    assert (backup["state"], backup["tables"]["members"]) == ("ok", 1)


def _is_of_dpkg_alone(pi: Pi) -> None:
    """install.sh neither installs over it nor takes it away; what dpkg has put there is whole."""
    machine = pi.machine
    for words in ([], ["--uninstall"]):
        done = machine.run(_INSTALL_SH, "--database", DATABASE, *words, check=False)
        assert (done.returncode, "sudo apt remove gymdbd" in done.stderr) == (1, True)
        shown = machine.run(_INSTALL_SH, "--database", DATABASE, *words, "--dry-run").stdout
        assert "would refuse: gymdbd is installed as a Debian package" in shown
    done = machine.run("gymdbd-setup", "--uninstall", check=False)
    assert (done.returncode, "sudo apt remove gymdbd" in done.stderr) == (2, True)
    assert machine.run("dpkg", "--verify", "gymdbd").stdout == ""
    assert pi.show("ActiveState") == "active"


def _is_upgraded(pi: Pi, newer: str) -> None:
    """While dpkg works no service runs; then it goes on, unless somebody had stopped it before."""
    machine = pi.machine
    whole = machine.path(newer).read_bytes()
    machine.path(f"{newer}.cut").write_bytes(whole[: len(whole) // 2])
    before = pi.show("MainPID")
    assert machine.run("dpkg", "-i", f"{newer}.cut", check=False).returncode != 0
    assert (pi.show("ActiveState"), pi.show("MainPID") != before) == ("active", True)
    assert machine.run("gymdbd", "--version").stdout == f"gymdbd {__version__}\n"
    assert machine.run("cat", "/run/seen-by-preinst").stdout == "inactive\n"

    _apt(pi, "install", newer)
    assert machine.run("cat", "/run/seen-by-preinst").stdout == "inactive\n"
    assert (pi.show("ActiveState"), pi.show("NRestarts")) == ("active", "0")
    assert json.loads(machine.run("cat", STATUS).stdout)["daemon"]["version"] == _NEWER

    machine.run("systemctl", "stop", "gymdbd")
    _apt(pi, "install", "--reinstall", newer)
    assert (pi.show("ActiveState"), pi.show("UnitFileState")) == ("inactive", "enabled")


def _write_what_is_missed(pi: Pi) -> str:
    """Put a file into every place where a person keeps something; return what sums all of them."""
    machine = pi.machine
    machine.sh(
        f"install -d /etc/gymdbd/credentials; echo secret >/etc/gymdbd/credentials/smtp;"
        f"echo '# ours' >>{_DROP_INS}/paths.conf; echo '# ours' >>{CONFIG};"
        f"runuser -u pi -- mkdir -p /home/pi/.ssh {HOME}/replica;"
        f"echo key >/home/pi/.ssh/gymdbd; echo replica >{HOME}/replica/gym.db;"
        "touch /var/lib/gymdbd-peers/mac-office"
    )
    places = f"/etc/gymdbd {_DROP_INS} {STATE} {ARCHIVE} {HOME}/replica /home/pi/.ssh"
    listed = f"find {places} /var/lib/gymdbd-peers -type f -print0 | sort -z | xargs -0 sha256sum"
    assert all(name in machine.sh(listed) for name in ("ledger.jsonl", "status.json", ".db.json"))
    return listed


def _is_removed_and_comes_back(pi: Pi, package: str) -> None:
    """Of a removed package no program is left; once it is back, the service goes on by itself."""
    machine = pi.machine
    machine.run("systemctl", "start", "gymdbd")
    _apt(pi, "remove", "gymdbd")
    assert (pi.show("LoadState"), machine.sh("pgrep -x gymdbd || true")) == ("not-found", "")
    machine.sh("! test -e /opt/gymdbd && ! test -e /usr/bin/gymdbd")
    _apt(pi, "install", package)
    assert (pi.show("ActiveState"), pi.show("UnitFileState")) == ("active", "enabled")


def _is_purged(pi: Pi, listed: str) -> None:
    """Nothing of it is left but what is somebody's, to the byte; a second time, nothing changes."""
    machine = pi.machine
    machine.run("systemctl", "stop", "gymdbd")
    before = machine.sh(listed)
    told = _apt(pi, "purge", "gymdbd")
    assert machine.sh(listed) == before
    assert f"kept: /etc/gymdbd\nkept: {_DROP_INS}\nkept: {STATE}\n" in told
    left = "find / -xdev -name '*gymdbd*' -not -path '/home/*' -not -path '/var/log/*'"
    expected = ["/etc/gymdbd", _DROP_INS, STATE, "/var/lib/gymdbd-peers"]
    assert sorted(machine.sh(left).split()) == expected
    machine.sh("! test -e /etc/gymdbd/config.example.yaml; ! dpkg -l gymdbd")


def test_the_package_and_install_sh_are_never_installed_together(box: Pi, package: Path) -> None:
    """The package refuses, changes nothing, and says what to do; purged later, it harms nobody."""
    machine = box.machine
    deb = f"/home/pi/{package.name}"
    _apt(box, "install", deb)
    machine.run("gymdbd-setup", "--database", DATABASE, "--archive", ARCHIVE)
    _apt(box, "remove", "gymdbd")
    box.install()
    listed = "find /opt/gymdbd /etc/systemd /etc/gymdbd /usr/local | sort; gymdbd --version"
    before = machine.sh(listed)

    for words in (("install", deb), ("purge", "gymdbd")):
        told = _apt(box, *words, check=False)
        assert ("installed here by deploy/install.sh" in told) == ("install" in words)
        assert (box.show("ActiveState"), box.show("UnitFileState")) == ("active", "enabled")
        assert machine.sh(listed) == before

    machine.run(_INSTALL_SH, "--uninstall")
    assert "its service is not enabled; next: sudo gymdbd-setup" in _apt(box, "install", deb)
    assert box.show("ActiveState") == "inactive"
    machine.run("gymdbd-setup")
    assert (box.show("ActiveState"), box.show("User")) == ("active", "pi")


def test_the_package_holds_only_what_dpkg_may_own(package: Path) -> None:
    """Root's files, in folders of programs, for the Python of the build."""
    fields = _run("dpkg-deb", "-f", package)
    architecture = _run("dpkg", "--print-architecture").strip()
    minor = int(_run("/usr/bin/python3", "-c", "import sys; print(sys.version_info[1])"))
    assert f"\nVersion: {__version__}\nArchitecture: {architecture}\n" in fields
    assert f" python3 (>= 3.{minor}), python3 (<< 3.{minor + 1})," in fields
    assert package.name == f"gymdbd_{__version__}_{architecture}.deb"
    lines = [line.split(maxsplit=5) for line in _run("dpkg-deb", "-c", package).splitlines()]
    assert {line[1] for line in lines} == {"root/root"}
    assert {line[0] for line in lines} == {"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"}
    # Where people keep files, there is one link.
    names = {line[5].partition(" -> ")[0].removeprefix(".") for line in lines}
    places = ("/opt/gymdbd/", "/usr/")
    assert {name for name in names if not name.startswith(places)} - {"/", "/opt/"} == {
        "/etc/",
        "/etc/gymdbd/",
        "/etc/gymdbd/config.example.yaml",
    }


def test_no_path_of_the_build_is_left_in_the_package(package: Path, tmp_path: Path) -> None:
    """The program starts the Python of /opt/gymdbd, which is the place that tracebacks name."""
    _run("dpkg-deb", "-x", package, tmp_path)
    program = (tmp_path / "opt/gymdbd/bin/gymdbd").read_text()
    assert program.startswith("#!/opt/gymdbd/bin/python")
    done = subprocess.run(
        ["grep", "-rlaF", "/package/opt", tmp_path / "opt"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == ""


def test_the_same_wheels_give_the_same_package(package: Path, stage: Stage, tmp_path: Path) -> None:
    """To the byte, so that anybody can check what was built; with --all only, for its time."""
    if samples.EVERYTHING:
        again = Path(_run(_BUILD, "--wheels", stage.wheels, "--output", tmp_path).strip())
        assert again.read_bytes() == package.read_bytes()

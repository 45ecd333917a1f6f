"""The Debian package on a Pi: its page typed from top to bottom, and what goes wrong on the way."""

from __future__ import annotations

import gzip
import json
import platform
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd import __version__
from tests.e2e.pi import ARCHIVE, CONFIG, DATABASE, HOME, STATE, STATUS
from tests.support import guides, samples
from tests.support.command import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Stage
    from tests.e2e.pi import Pi

_PAGE = "deploy/debian/README.md"
_NEWER = "99.0"
_DROP_INS = "/etc/systemd/system/gymdbd.service.d"
_INSTALL_SH = "/home/pi/gymdbd/deploy/install.sh"
_INSTALL = "sudo apt-get install ./gymdbd_*.deb"
_DEBIAN_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
# A folder in place of the registry, which the Pi of this stage does not reach.
_REGISTRY = "[global]\nno-index = true\nfind-links = /home/pi/wheels\n"
# dpkg flushes each file to the disk, which takes most of its time.
_UNSAFE = "force-unsafe-io\n"
# The newer package looks whether the service rests, and can fail then, or have dpkg killed while it
# unpacks: when dpkg has put a first file beside the one that it is going to replace.
_LOOK = """
systemctl is-active gymdbd >/run/seen || true
test ! -e /run/fail
if [ -e /run/kill ]; then
    rm /run/kill
    (
        until find /opt/gymdbd -name '*.dpkg-new' | grep -q .; do :; done
        kill -KILL "$PPID"
    ) >/dev/null 2>&1 </dev/null &
fi
"""
# A higher version of the same code.
_RENEW = f"""
cd /home/pi
rm -rf root
dpkg-deb -R gymdbd/gymdbd_*.deb root
sed -i 's/^Version: .*/Version: {_NEWER}/' root/DEBIAN/control
cat >>root/DEBIAN/preinst
cd root/opt/gymdbd/lib/python3.*/site-packages/gymdbd
sed -i 's/^__version__ = .*/__version__ = "{_NEWER}"/' __init__.py
rm __pycache__/__init__.*
cd /home/pi
sed -i '\\#/site-packages/gymdbd/__init__.py$#d' root/DEBIAN/md5sums
mv gymdbd/gymdbd_*.deb .
dpkg-deb -Znone -b root gymdbd/gymdbd_{_NEWER}_all.deb
rm -r root
"""
# Where people keep things: archives, replicas, keys, configurations, in usual and in odd places.
_MISSED = {
    "/etc/gymdbd/credentials/smtp": "secret",
    "/etc/gymdbd/key": "key",
    f"{_DROP_INS}/ours.conf": "[Service]\n",
    "/home/pi/.ssh/gymdbd": "key",
    f"{HOME}/replica/gym.db": "replica",
    f"{STATE}/archive/gym_backup_20260101_000000.db": "backup",
    "/var/lib/gymdbd-peers/mac-office": "",
    "/opt/gymdbd/archive/gym_backup_20260101_000000.db": "backup",
    "/opt/gymdbd/bin/replica.db": "replica",
    "/opt/gymdbd/lib/key": "key",
    "/usr/share/gymdbd/config.yaml": "jobs: {}\n",
    "/usr/share/doc/gymdbd/ledger.jsonl": "{}\n",
}


@dataclass
class _Reader:
    """Somebody at the Pi, in the folder of the clone, with the page of the package."""

    pi: Pi
    typed: list[str] = field(default_factory=list)

    def type(self, line: str) -> str:
        """Type a line of the page, as pi, and return all that is printed."""
        assert line in guides.shell(_PAGE)
        self.typed.append(line)
        # apt-get need not ask, and asks nothing: its input is not a terminal.
        return self.sh(line.replace("apt-get", "apt-get -y"), user="pi")

    def sh(self, script: str, *, user: str = "root", code: int = 0) -> str:
        """Run a script that ends with that exit code, and return all that it prints."""
        done = self.pi.machine.run(
            "bash", "-c", f"cd /home/pi/gymdbd && {script}", user=user, check=False, timeout_s=600
        )
        shown = done.stdout + done.stderr
        assert done.returncode == code, shown
        return shown

    @property
    def service(self) -> tuple[str, str]:
        """Return whether the service runs, and whether it starts with the machine."""
        return self.pi.show("ActiveState"), self.pi.show("UnitFileState")


@pytest.fixture(scope="module")
def reader(stage: Stage, installed: Path) -> Iterator[_Reader]:
    """Give a Pi on which install.sh was run from a checkout, where the package is built now."""
    with stage.pi(installed) as pi:
        pi.machine.boot()
        pi.start_gym()
        pi.machine.write("/etc/pip.conf", _REGISTRY)
        pi.machine.write("/etc/dpkg/dpkg.cfg.d/quick", _UNSAFE)
        reader = _Reader(pi)
        reader.type("deploy/debian/build.sh")
        yield reader


@pytest.fixture(scope="module")
def package(reader: _Reader, stage: Stage) -> Path:
    """Give the package that was built there, for dpkg-deb here."""
    (built,) = reader.pi.machine.path("/home/pi/gymdbd").glob("gymdbd_*.deb")
    return Path(shutil.copy(built, stage.folder))


def test_the_package_holds_only_what_dpkg_may_own(package: Path) -> None:
    """Root's files, in folders of programs, for the Python of the build; no links that leave."""
    architecture = _DEBIAN_MACHINES[platform.machine()]
    fields = _run("dpkg-deb", "-f", package)
    assert f"\nVersion: {__version__}\nArchitecture: {architecture}\n" in fields
    assert "\nDepends: libc6, python3 (>= 3.11), python3 (<< 3.12), tzdata\n" in fields
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


def test_what_is_in_the_package_is_that_of_the_checkout(package: Path, tmp_path: Path) -> None:
    """The unit is the one of install.sh; no path of the build is left; the manual is clean."""
    _run("dpkg-deb", "-x", package, tmp_path)
    unit = tmp_path / "usr/lib/systemd/system/gymdbd.service"
    assert unit.read_bytes() == (ROOT / "deploy/systemd/gymdbd.service").read_bytes()
    program = (tmp_path / "opt/gymdbd/bin/gymdbd").read_text()
    assert program.startswith("#!/opt/gymdbd/bin/python")
    built_in = ["grep", "-rlaF", "/package/opt", str(tmp_path / "opt")]
    done = subprocess.run(built_in, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    for name in ("man1/gymdbd.1", "man8/gymdbd-setup.8"):
        packed = tmp_path / f"usr/share/man/{name}.gz"
        page = packed.with_suffix("")
        page.write_bytes(gzip.decompress(packed.read_bytes()))
        assert _run("mandoc", "-T", "lint", page) == ""


def test_a_reader_of_the_page_installs_upgrades_and_purges(reader: _Reader) -> None:
    """Each step leaves what the page says, and no step loses anybody's file."""
    _refuses_over_install_sh(reader)
    _takes_over(reader)
    _is_there(reader)
    _is_of_dpkg_alone(reader)
    _tells_what_is_next(reader)
    listed = _write_what_is_missed(reader)
    before = reader.sh(listed)
    reader.pi.machine.run("bash", "-euc", _RENEW, text=_LOOK)
    _goes_on_after_a_failed_upgrade(reader)
    _recovers_from_a_killed_upgrade(reader)
    _stays_stopped(reader)
    _is_removed_and_comes_back(reader)
    _is_purged(reader, listed, before)
    assert [line for line in guides.shell(_PAGE) if line not in reader.typed] == []


def _refuses_over_install_sh(reader: _Reader) -> None:
    """Say what to do, and change nothing."""
    listed = "find /opt/gymdbd /etc/systemd /etc/gymdbd /usr/local /usr/bin | sort"
    before = reader.sh(listed)
    told = reader.sh("apt-get -y install ./gymdbd_*.deb", code=100)
    assert "installed here by deploy/install.sh: remove that first" in told
    assert reader.sh(listed) == before
    assert reader.service == ("active", "enabled")


def _takes_over(reader: _Reader) -> None:
    """After the change the service has the configuration that it had."""
    reader.pi.machine.sh(f"echo '# ours' >>{CONFIG}")
    kept = f"sha256sum {CONFIG}"
    before = reader.sh(kept)
    reader.type("sudo deploy/install.sh --uninstall")
    told = reader.type(_INSTALL)
    assert "its service is not enabled; next: sudo gymdbd-setup" in told
    assert reader.service == ("inactive", "disabled")
    assert "run it as root: sudo gymdbd-setup" in reader.sh("gymdbd-setup", user="pi", code=1)
    reader.type("sudo gymdbd-setup")
    assert reader.sh(kept) == before
    assert (reader.service, reader.pi.show("User")) == (("active", "enabled"), "pi")


def _is_there(reader: _Reader) -> None:
    """Everything that a person looks for; the unit is that of the package."""
    assert reader.sh("gymdbd --version", user="pi") == f"gymdbd {__version__}\n"
    assert "gym_system_backup_" in reader.sh("gymdbd demo", user="pi")
    assert reader.pi.show("FragmentPath").endswith("/lib/systemd/system/gymdbd.service")
    reader.sh(
        """set -e
        test -s /etc/gymdbd/config.example.yaml
        test -s /usr/share/doc/gymdbd/config.example.yaml
        zcat /usr/share/man/man8/gymdbd-setup.8.gz | grep -q 'database FILE'
        grep -q 'compdef gymdbd' /usr/share/zsh/vendor-completions/_gymdbd
        grep -q gymdbd /usr/share/fish/vendor_completions.d/gymdbd.fish"""
    )
    offered = reader.sh(
        """. /usr/share/bash-completion/completions/gymdbd
        COMP_LINE='gymdbd ver' COMP_POINT=10 COMP_TYPE=9 COMP_WORDS=(gymdbd ver)
        $(complete -p gymdbd | sed 's/.* -F \\([^ ]*\\) .*/\\1/') gymdbd
        echo "${COMPREPLY[@]}" """,
        user="pi",
    )
    assert offered.split() == ["verify"]


def _is_of_dpkg_alone(reader: _Reader) -> None:
    """install.sh neither installs over it nor takes it away; what dpkg has put there is whole."""
    for words in ("", "--uninstall"):
        told = reader.sh(f"{_INSTALL_SH} --database {DATABASE} {words}", code=1)
        assert "sudo apt remove gymdbd" in told
        shown = reader.sh(f"{_INSTALL_SH} --database {DATABASE} {words} --dry-run")
        assert "would refuse: gymdbd is installed as a Debian package" in shown
    assert "sudo apt remove gymdbd" in reader.sh("gymdbd-setup --uninstall", code=2)
    assert reader.sh("dpkg --verify gymdbd") == ""
    assert reader.service == ("active", "enabled")


def _tells_what_is_next(reader: _Reader) -> None:
    """On a machine without a configuration nothing is started, and a first backup is good."""
    reader.sh(f"systemctl disable --now gymdbd; mv {CONFIG} {CONFIG}.old; rm -r {_DROP_INS}")
    # As dpkg calls it; a second time nothing changes.
    configure = "touch /run/gymdbd-to-start; /var/lib/dpkg/info/gymdbd.postinst configure"
    for _ in range(2):
        told = reader.sh(configure)
        assert "backs nothing up yet; next: sudo gymdbd-setup --database FILE" in told
        assert reader.service == ("inactive", "disabled")
    (setup,) = (line for line in guides.shell(_PAGE) if "gymdbd-setup --database" in line)
    reader.type(setup)
    assert (reader.service, reader.pi.show("User")) == (("active", "enabled"), "pi")
    assert "verified" in reader.type("gymdbd backup nightly-backup")
    assert "daemon running" in reader.type("gymdbd status")


def _write_what_is_missed(reader: _Reader) -> str:
    """Put a file into every place where a person keeps something; return what sums all of them."""
    machine = reader.pi.machine
    for path, text in _MISSED.items():
        machine.write(path, text)
    # Empty, but no folder of ours.
    machine.run("mkdir", "-p", "/opt/gymdbd/empty-archive")
    places = f"{' '.join(_MISSED)} {CONFIG} {CONFIG}.old {_DROP_INS}/paths.conf {ARCHIVE}"
    assert ".db.json" in machine.sh(f"ls {ARCHIVE}")
    return f"find {places} -type f -print0 | sort -z | xargs -0 sha256sum"


def _goes_on_after_a_failed_upgrade(reader: _Reader) -> None:
    """If the service ran before, it goes on with the older release, and only then."""
    before = reader.pi.show("MainPID")
    reader.sh("touch /run/fail; dpkg -i ./gymdbd_*.deb", code=1)
    assert reader.sh("cat /run/seen") == "inactive\n"
    assert (reader.service[0], reader.pi.show("MainPID") != before) == ("active", True)
    reader.sh("systemctl stop gymdbd; dpkg -i ./gymdbd_*.deb", code=1)
    assert reader.service == ("inactive", "enabled")
    reader.sh("rm /run/fail; systemctl start gymdbd")


def _recovers_from_a_killed_upgrade(reader: _Reader) -> None:
    """Killed while it unpacks, and the machine started again: the next attempt does all of it."""
    reader.sh("touch /run/kill; dpkg -i ./gymdbd_*.deb", code=-signal.SIGKILL)
    assert "half-installed" in reader.sh("dpkg-query -W -f '${db:Status-Status}' gymdbd")
    # As after a start of the machine.
    reader.sh("rm /run/gymdbd-to-start; systemctl start gymdbd")
    reader.type("sudo dpkg -i ./gymdbd_*.deb")
    assert reader.sh("cat /run/seen") == "inactive\n"
    assert (reader.service, reader.pi.show("NRestarts")) == (("active", "enabled"), "0")
    assert json.loads(reader.sh(f"cat {STATUS}"))["daemon"]["version"] == _NEWER
    assert reader.sh("dpkg --verify gymdbd; find / -xdev -name '*.dpkg-*' -path '*gymdbd*'") == ""


def _stays_stopped(reader: _Reader) -> None:
    """If somebody has stopped the service, the scripts of an upgrade do not start it."""
    reader.sh("systemctl stop gymdbd; cd /var/lib/dpkg/info; ./gymdbd.prerm upgrade 99")
    reader.sh("/var/lib/dpkg/info/gymdbd.postinst configure 99")
    assert reader.service == ("inactive", "enabled")
    reader.sh("systemctl start gymdbd")


def _is_removed_and_comes_back(reader: _Reader) -> None:
    """Of a removed package no program is left; once it is back, the service goes on by itself."""
    reader.type("sudo apt-get remove gymdbd")
    assert reader.pi.show("LoadState") == "not-found"
    assert (
        reader.sh("pgrep -x gymdbd || true; find /opt/gymdbd -name '*.py' -o -name python3") == ""
    )
    reader.sh("test ! -e /usr/bin/gymdbd")
    reader.sh("apt-get -y install ./gymdbd_*.deb")
    assert reader.service == ("active", "enabled")


def _is_purged(reader: _Reader, listed: str, before: str) -> None:
    """Nothing of it is left but what is somebody's, to the byte."""
    state = f"find {STATE} -type f | sort | xargs sha256sum"
    reader.sh("systemctl stop gymdbd")
    recorded = reader.sh(state)
    assert "/ledger.jsonl" in recorded
    told = reader.type("sudo apt-get purge gymdbd")
    assert f"kept: /etc/gymdbd\nkept: {_DROP_INS}\nkept: {STATE}\n" in told
    assert (reader.sh(listed), reader.sh(state)) == (before, recorded)
    reader.sh("test -d /opt/gymdbd/empty-archive && test ! -e /etc/gymdbd/config.example.yaml")
    reader.sh("! dpkg -l gymdbd && ! test -e /usr/bin/gymdbd && ! test -e /usr/sbin/gymdbd-setup")
    left = "find / -xdev -name '*gymdbd*' -not -path '/home/*' -not -path '/var/log/*'"
    expected = {"/etc/gymdbd", _DROP_INS, STATE, "/var/lib/gymdbd-peers", "/opt/gymdbd"}
    expected |= {"/usr/share/gymdbd", "/usr/share/doc/gymdbd"}
    assert set(reader.sh(left).split()) == expected


def test_the_same_wheels_give_the_same_package(reader: _Reader, package: Path) -> None:
    """To the byte, so that anybody can check what was built; with --all only, for its time."""
    if samples.EVERYTHING:
        reader.sh("mkdir /home/pi/again; deploy/debian/build.sh --output /home/pi/again")
        (again,) = reader.pi.machine.path("/home/pi/again").glob("*.deb")
        assert again.read_bytes() == package.read_bytes()


def _run(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

"""The README alone, on two machines that know nothing of gymdbd: how long until all is safe."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e import tree
from tests.e2e.mac import Mac
from tests.e2e.network import PI_NEAR
from tests.e2e.pi import HOME
from tests.support import guides
from tests.support.databases import broken_promises, query
from tests.support.sshd import make_key

if TYPE_CHECKING:
    import subprocess

    import pytest

    from tests.e2e.conftest import Stage
    from tests.e2e.pi import Pi

# The commands of these sections, in the order in which they are read; not the one for the tests.
_SECTIONS = re.compile(r"^## Install$.*?(?=^## Why)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^(<!-- tests -->\n)?```(\w*)\n(.*?)^```$|`([^`]+)`", re.MULTILINE | re.DOTALL)
_INSTALL = "python3 -m venv .venv"
_ACTIVATE = ". .venv/bin/activate"
_TYPED = ("gymdbd ", _ACTIVATE)
_ELSEWHERE = "gymdbd init --host "
# Folders in place of the registry, which this stage does not reach.
_REGISTRY = "[global]\nno-index = true\nfind-links = /home/pi/wheels\n"


def _commands() -> list[str]:
    sections = _SECTIONS.search(guides.read("README.md"))
    assert sections is not None
    found = [
        block if language == "sh" and not of_tests else words if words.startswith(_TYPED) else ""
        for of_tests, language, block, words in _CODE.findall(sections[0])
    ]
    return [" ".join(one.split()) for one in found if one]


def _mac(pi: Pi, folder: Path) -> Mac:
    """Have a Mac with a clone, which may log in to the Pi and has compared its host key."""
    mac = Mac(pi.office.mac, folder, pi.host_key)
    for file in (mac.key, mac.key.with_suffix(".pub")):
        file.unlink()
    own = make_key(mac.home / ".ssh/id_ed25519")
    pi.machine.sh("mkdir -p -m 700 /home/pi/.ssh && chown pi:pi /home/pi/.ssh")
    pi.let_in(own.with_suffix(".pub").read_text())
    (mac.home / ".ssh/config").write_text(
        f"Host raspberry-pi\n  HostName {PI_NEAR}\n  User pi\n  IdentityFile {own}\n"
        f"  UserKnownHostsFile {mac.home}/.ssh/known_hosts\n"
    )
    tree.checkout(mac.home / "gymdbd")
    # OpenSSH takes the home folder of the account, which is that of the tests' root.
    ssh = mac.home / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nexec /usr/bin/ssh -F "$HOME/.ssh/config" "$@"\n')
    ssh.chmod(0o755)
    return mac


def _type_on_pi(pi: Pi, line: str, folder: str) -> subprocess.CompletedProcess[str]:
    # A new shell each time: what the reader has activated is activated in it as well.
    script = f"cd ~/gymdbd && if [ -e .venv ]; then {_ACTIVATE}; fi && cd {folder} && {line}"
    return pi.machine.run("bash", "-c", script, user="pi", check=False)


def _type_on_mac(mac: Mac, line: str, wheels: Path) -> subprocess.CompletedProcess[str]:
    # The tests are root, whose configuration would be this machine's.
    settings = {
        "PATH": f"{mac.home}/bin:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "GYMDBD_CONFIG": f"{mac.home}/.config/gymdbd/config.yaml",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    given = [f"{name}={value}" for name, value in settings.items()]
    active = f"cd {mac.home}/gymdbd && if [ -e .venv ]; then {_ACTIVATE}; fi && "
    return mac.run("env", "-u", "PYTHONPATH", *given, "bash", "-c", active + line, timeout_s=300)


def test_the_readme_alone_leads_to_a_verified_backup_and_a_first_pull(
    fresh: Pi, stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command as it stands there; it prints how long it took, which decides nothing."""
    commands = _commands()
    assert [line for line in commands if _INSTALL in line] == commands[:1]
    assert commands[-1].startswith(_ELSEWHERE)
    fresh.machine.write("/etc/pip.conf", _REGISTRY)
    began = time.monotonic()
    backed_up = 0.0
    for line in commands[:-1]:
        folder = HOME if line.startswith("gymdbd ") else "/home/pi/gymdbd"
        done = _type_on_pi(fresh, line, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if line.startswith("gymdbd backup "):
            backed_up = time.monotonic() - began
    assert _type_on_pi(fresh, "gymdbd status", HOME).returncode == 0
    assert _type_on_pi(fresh, "gymdbd verify", HOME).returncode == 0
    assert len(fresh.backups()) > 1

    mac = _mac(fresh, tmp_path)
    # As the README says for a Mac: without the first of its commands, which is Debian's.
    done = _type_on_mac(mac, commands[0].partition(" && ")[2], stage.wheels)
    assert done.returncode == 0, done.stdout + done.stderr
    done = _type_on_mac(mac, f"{commands[-1]} --wait 0s", stage.wheels)
    told = re.search(r"^printf .*\n.*authorized_keys'$", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout + done.stderr
    done = _type_on_mac(mac, told[0], stage.wheels)
    assert done.returncode == 0, done.stderr
    done = _type_on_mac(mac, commands[-1], stage.wheels)
    assert done.returncode == 0, done.stdout + done.stderr
    pulled = time.monotonic() - began
    replica = mac.home / "gymdbd/raspberry-pi/gym_system.db"
    assert query(replica, "SELECT count(*) FROM members") == [(1,)]
    assert broken_promises(replica) == []
    with capsys.disabled():
        sys.stdout.write(f"\nfirst backup: {backed_up:.0f} s; first pull: {pulled:.0f} s\n")

"""The operator's guide, from top to bottom: every command typed on the machine that it names."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.mac import Mac
from tests.e2e.network import PI_NEAR
from tests.e2e.pi import ARCHIVE, DATABASE
from tests.support.command import GYMDBD, ROOT
from tests.support.databases import broken_promises

if TYPE_CHECKING:
    import subprocess

    from tests.e2e.pi import Pi

_GUIDE = ROOT / "deploy" / "GUIDE.ko.md"
_BLOCK = re.compile(r"^<!-- ([a-z, ]+) -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"gym_system_backup_\d{8}_\d{6}\.db")
# What this stage cannot do, because there is no macOS, no registry, nobody to type a password, or
# nobody to be told.
_ELSEWHERE = {
    "uv venv --seed --python 3.13 ~/.local/share/gymdbd",
    "~/.local/share/gymdbd/bin/pip install .",
    "sudo mkdir -p /usr/local/bin",
    "sudo ln -sf ~/.local/share/gymdbd/bin/gymdbd /usr/local/bin/gymdbd",
    "scp ~/.ssh/gymdbd.pub raspberry-pi:",
    "scp pi@raspberrypi.local:/var/lib/gymdbd/report.html ~/gymdbd-pi.html",
    "open ~/gymdbd-pi.html",
    "deploy/install.sh",
    "deploy/install.sh --uninstall",
    "ping -c 3 raspberrypi.local",
    "gymdbd notify --test",
    "gymdbd notify --test office",
    "gymdbd notify --simulate failing nightly-backup",
    "sudo pmset repeat wakeorpoweron MTWRFSU 08:55:00",
}
# A folder in place of the registry, which the Pi of this stage does not reach.
_REGISTRY = "[global]\nno-index = true\nfind-links = /home/pi/wheels\n"
_SUSPICIOUS = "gymdbd diff gym_system_backup_20261122_030000.db"
_WHOLE_FILE = "gymdbd restore latest --replace"


@dataclass
class _Reader:
    """Somebody with both machines, who types what the guide says and puts in the true names."""

    pi: Pi
    mac: Mac

    def type_on_pi(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line in the folder of the checkout, as the user pi."""
        if named := len(_NAME.findall(line)):
            names = iter(self._backups()[-named:])
            line = _NAME.sub(lambda _: next(names), line)
        now = self.pi.machine.sh("date -d '1 minute' '+%F %H:%M'").strip()
        line = line.replace("2026-11-20 14:00", now)
        words = ("bash", "-c", f"cd ~/gymdbd && {line}")
        return self.pi.machine.run(*words, user="pi", check=False)

    def _backups(self) -> list[str]:
        """Return the names, oldest first, by gymdbd: `ls` mistakes two of one second."""
        newest_first = self.pi.gymdbd("list")["backups"]
        return [Path(one["path"]).name for one in reversed(newest_first)]

    def type_on_mac(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line on the Mac, on whose PATH gymdbd is."""
        path = shlex.quote(str(self.mac.home / "bin"))
        return self.mac.run("bash", "-c", f"PATH={path}:$PATH; {line}")

    def lose_members(self) -> None:
        """Have a good backup, and a newer one of much less."""
        members = "INSERT INTO members (name) SELECT 'x' FROM generate_series(1, 500)"
        self.pi.machine.run("sqlite3", DATABASE, members, user="pi")
        assert self.type_on_pi("gymdbd backup nightly-backup").returncode == 0
        self.pi.machine.run("sqlite3", DATABASE, "DELETE FROM members WHERE id > 9", user="pi")
        assert self.type_on_pi("gymdbd backup nightly-backup").returncode == 1


def _prepare_mac(pi: Pi, mac: Mac) -> None:
    """Put on the Mac what the guide lets people write, and gymdbd on its PATH."""
    text = _GUIDE.read_text(encoding="utf-8")
    ssh = re.search(r"^Host raspberry-pi\n(?: +.*\n)+", text, re.MULTILINE)
    yaml = re.search(r"^```yaml\n(status_file: ~.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert ssh is not None
    assert yaml is not None
    (mac.home / ".ssh/config").write_text(ssh[0].replace("raspberrypi.local", PI_NEAR))
    for one in (mac.key, mac.key.with_suffix(".pub")):
        one.unlink()
    _write(mac.home / ".config/gymdbd/config.yaml", yaml[1])
    program = mac.home / "bin" / "gymdbd"
    _write(program, f'#!/bin/sh\nexec {shlex.join(GYMDBD)} "$@"\n')
    program.chmod(0o755)
    assert pi.backups() == []


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_command_of_the_operators_guide_does_what_it_says(fresh: Pi, tmp_path: Path) -> None:
    """In the guide's order, from a Pi as it comes out of its box to one without gymdbd again."""
    mac = Mac(fresh.office.mac, tmp_path, fresh.host_key)
    reader = _Reader(fresh, mac)
    _prepare_mac(fresh, mac)
    fresh.machine.write("/etc/pip.conf", _REGISTRY)
    left = set(_ELSEWHERE)
    for machines, block in _BLOCK.findall(_GUIDE.read_text(encoding="utf-8")):
        lines = [line.removeprefix("$ ") for line in block.splitlines()]
        failing = _SUSPICIOUS in block
        if failing:
            reader.lose_members()
        if _WHOLE_FILE in block:
            fresh.machine.run("systemctl", "stop", "gym")
        for machine in machines.split(", "):
            for line in lines:
                if line in _ELSEWHERE:
                    left.discard(line)
                    continue
                done = {"pi": reader.type_on_pi, "mac": reader.type_on_mac}[machine](line)
                expected = 2 if failing and line == "gymdbd status" else 0
                assert done.returncode == expected, f"{machine}: {line}\n{done.stdout}{done.stderr}"
        if "ssh-keygen" in block:
            fresh.machine.write("/home/pi/gymdbd.pub", mac.public_key, owner="pi")
        if _WHOLE_FILE in block:
            fresh.machine.run("systemctl", "start", "gym")
    assert left == set()
    assert broken_promises(mac.home / "gym-controller/instance/gym_system.db") == []
    assert len(fresh.machine.sh(f"ls {ARCHIVE}/*.db").split()) > 1

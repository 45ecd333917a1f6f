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
from tests.support import guides
from tests.support.command import GYMDBD
from tests.support.databases import query

if TYPE_CHECKING:
    import subprocess

    from tests.e2e.pi import Pi

_GUIDE = guides.read("deploy/GUIDE.ko.md")
_BLOCK = re.compile(r"^<!-- ([a-z, ]+) -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A backup by its name, or by a beginning of its time.
_NAME = re.compile(r"\bgym_system_backup_\d{8}_\d{6}\.db\b|(?<=[ ])2026\d{4}\b")
# What this stage cannot do, because there is no macOS, no registry, nobody to type a password or
# text, or nobody to be told.
_ELSEWHERE = {
    "ssh pi@raspberrypi.local",
    "sudo nano /etc/gymdbd/config.yaml",
    "scp -r ~/gymdbd pi@raspberrypi.local:",
    "cd ~/gymdbd",
    "scp pi@raspberrypi.local:gymdbd.html ~/gymdbd-pi.html",
    "open ~/gymdbd-pi.html",
    "open ~/gymdbd-mac.html",
    "curl -LsSf https://astral.sh/uv/install.sh | sh",
    "uv venv --seed --python 3.13 ~/.local/share/gymdbd",
    "~/.local/share/gymdbd/bin/pip install .",
    "sudo mkdir -p /usr/local/bin",
    "sudo ln -sf ~/.local/share/gymdbd/bin/gymdbd /usr/local/bin/gymdbd",
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
_SUSPICIOUS = "gymdbd diff 20261122 20261123"
_WHOLE_FILE = "gymdbd restore latest --replace"
_CONNECT = "gymdbd init --host "


@dataclass
class _Reader:
    """Somebody with both machines, who types what the guide says and puts in the true names."""

    pi: Pi
    mac: Mac

    def type_on_pi(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line in the folder of the checkout, as the user pi."""
        if named := len(_NAME.findall(line)):
            names = iter(self._backups()[-named:])
            line = _NAME.sub(lambda found: _as_written(found[0], next(names)), line)
        now = self.pi.machine.sh("date '+%F %T'").strip()
        line = line.replace("2026-11-20 14:00", now).replace("--at yesterday", f'--at "{now}"')
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

    def let_the_mac_in(self, line: str) -> None:
        """Begin to connect the Mac, and type on the Pi what that prints."""
        begun = self.type_on_mac(f"{line} --wait 1s")
        authorize = re.search(r"^echo 'ssh-ed25519 .*$", begun.stdout, re.MULTILINE)
        assert authorize is not None, begun.stdout + begun.stderr
        assert self.type_on_pi(f"mkdir -p -m 700 ~/.ssh && {authorize[0]}").returncode == 0

    def lose_members(self) -> None:
        """Have a good backup, and a newer one of much less."""
        members = "INSERT INTO members (name) SELECT 'x' FROM generate_series(1, 500)"
        self.pi.machine.run("sqlite3", DATABASE, members, user="pi")
        assert self.type_on_pi("gymdbd backup nightly-backup").returncode == 0
        self.pi.machine.run("sqlite3", DATABASE, "DELETE FROM members WHERE id > 9", user="pi")
        assert self.type_on_pi("gymdbd backup nightly-backup").returncode == 1


def _as_written(written: str, name: str) -> str:
    """Return a backup as the guide names it: by the whole name, or by its time alone."""
    return name if written.endswith(".db") else name.removesuffix(".db").split("_backup_")[1]


def _prepare_mac(mac: Mac) -> None:
    """Have a Mac that knows the Pi's address and host key, and gymdbd on its PATH; no key yet."""
    known_hosts = mac.home / ".ssh/known_hosts"
    (mac.home / ".ssh/config").write_text(
        f"Host raspberrypi.local\n HostName {PI_NEAR}\n UserKnownHostsFile {known_hosts}\n"
    )
    for file in (mac.key, mac.key.with_suffix(".pub")):
        file.unlink()
    program = mac.home / "bin" / "gymdbd"
    program.parent.mkdir()
    # The tests are root, whose configuration and state would be those of this machine.
    config = '-c "$HOME/.config/gymdbd/config.yaml"'
    program.write_text(
        f'#!/bin/sh\nexport STATE_DIRECTORY="$HOME"\nexec {shlex.join(GYMDBD)} {config} "$@"\n'
    )
    program.chmod(0o755)


def test_every_command_of_the_operators_guide_does_what_it_says(fresh: Pi, tmp_path: Path) -> None:
    """In the guide's order, from a Pi as it comes out of its box to one without gymdbd again."""
    mac = Mac(fresh.office.mac, tmp_path, fresh.host_key)
    reader = _Reader(fresh, mac)
    _prepare_mac(mac)
    assert fresh.backups() == []
    fresh.machine.write("/etc/pip.conf", _REGISTRY)
    left = set(_ELSEWHERE)
    for machines, block in _BLOCK.findall(_GUIDE):
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
                if line.startswith(_CONNECT):
                    reader.let_the_mac_in(line)
                done = {"pi": reader.type_on_pi, "mac": reader.type_on_mac}[machine](line)
                expected = 2 if failing and line == "gymdbd status" else 0
                assert done.returncode == expected, f"{machine}: {line}\n{done.stdout}{done.stderr}"
        if _WHOLE_FILE in block:
            fresh.machine.run("systemctl", "start", "gym")
    assert left == set()
    replica = mac.home / "gymdbd/raspberrypi.local/gym_system.db"
    assert query(replica, "PRAGMA integrity_check") == [("ok",)]
    assert len(fresh.machine.sh(f"ls {ARCHIVE}/*.db").split()) > 1

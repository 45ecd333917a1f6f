"""The first steps on a Mac: what comes next is launchd's, and root is sent back to its user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.databases import backups, make_database, sqlite_elsewhere
from tests.support.mac import mac, mac_json
from tests.support.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path


def test_a_mac_is_set_up_by_one_command(tmp_path: Path) -> None:
    """The agent is installed without sudo, with the environment that this gymdbd runs in."""
    machine = Machine.make(tmp_path)
    make_database(machine.database)
    with sqlite_elsewhere(machine.database, "SELECT * FROM t"):
        code, answer = mac_json("init", "--database", machine.database, **machine.settings)
    assert (code, len(backups(machine.archive))) == (0, 1)
    service = answer["next"][0]
    assert f"deploy/install.sh --config {machine.config} --venv " in service
    assert "sudo" not in service


def test_root_of_a_mac_is_told_to_be_a_user(tmp_path: Path) -> None:
    """A LaunchDaemon runs as one, and reads that one's configuration."""
    machine = Machine.make(tmp_path)
    make_database(machine.database)
    settings = {**machine.settings, "GYMDBD_CONFIG": ""}
    done = mac("init", "--database", machine.database, **settings)
    assert (done.returncode, "without sudo" in done.stderr) == (2, True)

"""The Pi is dead: a new one is booted, one command puts the database there, and all goes on."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

from tests.e2e.mac import Mac
from tests.e2e.network import office
from tests.e2e.pi import DATABASE, INSTANCE
from tests.support.command import GYMDBD
from tests.support.databases import broken_promises, query

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Stage
    from tests.e2e.pi import Pi

_TOTALS = "SELECT members, rentals, events, fees FROM totals"
_NEW_KEYS = "rm -f /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh"


def _rebuild(mac: Mac, *words: object) -> dict[str, Any]:
    done = mac.run(*GYMDBD, "-c", mac.home / "config.yaml", "rebuild", *words, "--json")
    return dict(json.loads(done.stdout))


def _live_and_die(pi: Pi, mac: Mac) -> None:
    """Let the gym write, pull by the restricted key, write on, and switch off for good."""
    pi.machine.boot()
    pi.start_gym()
    pi.let_in(pi.restricted(mac.public_key))
    mac.configure()
    pi.start_writer()
    assert mac.pull()["state"] == "ok"
    pi.stop_writer()
    assert mac.pull()["state"] == "ok"
    pi.rent()
    pi.machine.power_off()


def _believe(mac: Mac, hint: str) -> None:
    """Type what the message says, having compared the fingerprints."""
    command = hint.rpartition("Only if they agree: ")[2]
    done = mac.run("bash", "-euc", command)
    assert done.returncode == 0, done


def test_a_new_machine_goes_on_with_what_the_last_pull_had(
    stage: Stage, installed: Path, tmp_path: Path
) -> None:
    """With its own host key, and a login that a person has; then the service, and the pulls."""
    with office() as place, stage.pi(installed, place=place) as old:
        mac = Mac(place.mac, tmp_path, old.host_key)
        try:
            _live_and_die(old, mac)
            had = query(mac.replica, _TOTALS)
            with stage.pi(place=place) as new:
                _begin_anew(stage, new, mac, had)
        finally:
            mac.end()


def _begin_anew(stage: Stage, new: Pi, mac: Mac, had: list[tuple[Any, ...]]) -> None:
    new.machine.boot()
    new.machine.sh(_NEW_KEYS)
    new.set_gym_up()
    new.machine.sh(f"rm -rf {INSTANCE}")
    person = mac.home / ".ssh" / "person"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", person], check=True)
    new.let_in(person.with_suffix(".pub").read_text())
    begun = time.monotonic()
    refused = _rebuild(mac, "--identity", person)
    assert refused["code"] == "host-key-changed", refused
    _believe(mac, refused["hint"])
    put = _rebuild(mac, "--identity", person)
    assert (put["state"], put["makes_folder"], put["remarks"]) == ("ok", True, []), put
    took_s = time.monotonic() - begun
    assert new.machine.sh(f"stat -c '%U:%G %a' {DATABASE}") == "pi:pi 644\n"
    new.machine.sh("systemctl start gym")
    new.unpack(stage.wheels)
    new.install()
    new.let_in(new.restricted(mac.public_key))
    pulled = mac.pull()
    assert (pulled["state"], pulled["strategy"]) in [("unchanged", "digest"), ("ok", "digest")]
    assert pulled["bytes_received"] < mac.replica.stat().st_size / 4
    assert query(mac.replica, _TOTALS) == had
    assert broken_promises(mac.replica) == []
    new.rent()
    assert mac.pull()["state"] == "ok"
    assert query(mac.replica, "SELECT rentals FROM totals") == [(had[0][1] + 1,)]
    assert new.gymdbd("backup", "nightly-backup")["state"] == "ok"
    all_s = time.monotonic() - begun
    print(  # noqa: T201 - how long a gym is without its database is what one wants to know
        f"database there after {took_s:.1f} s (the command took {put['duration_s']:.1f} s); "
        f"service, pulls and a backup after {all_s:.1f} s"
    )

"""What the service cannot do, seen from within it and by systemd itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.pi import ARCHIVE, CONFIG, INSTANCE, STATE, STATUS
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.e2e.pi import Pi

# 2.0 is safe enough; it is 0.6, so that the loss of nearly any one directive shows.
_MOST_EXPOSURE = 0.6
_PROBE = Path(__file__).with_name("probe.py")
_FROM_OUTSIDE = (
    *("/home/pi", "/home/pi/gym-controller", "/etc", "/etc/gymdbd", "/opt/gymdbd", "/usr"),
    *("/var/lib", "/var/log", "/srv", "/root", "/boot", "/sys/fs/cgroup", "/proc/sys/kernel"),
)


def test_systemd_calls_the_running_service_safe(pi: Pi) -> None:
    """By `systemd-analyze security`, with what this machine has configured."""
    pi.start()
    shown = pi.machine.run("systemd-analyze", "security", "--no-pager", "gymdbd").stdout
    level = re.search(r"Overall exposure level for gymdbd\.service: ([\d.]+)", shown)
    assert level is not None, shown
    assert float(level[1]) <= _MOST_EXPOSURE


def test_the_running_daemon_has_no_rights_to_give_up(pi: Pi) -> None:
    """The kernel says so: no capabilities, no new privileges, a filter, its user and no other."""
    pi.start()
    pid = pi.show("MainPID")
    lines = pi.machine.run("cat", f"/proc/{pid}/status").stdout.splitlines()
    state = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert state["Uid"] == ["1000"] * 4
    assert {int(state[name][0], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert (state["NoNewPrivs"], state["Seccomp"]) == (["1"], ["2"])


def test_nothing_else_can_be_written_in_the_view_that_the_daemon_has(pi: Pi) -> None:
    """Not even root could: its mounts are read-only but for archive, state and database."""
    pi.start()
    within = ["nsenter", f"--target={pi.show('MainPID')}", "--mount", "--", "touch"]
    for folder in _FROM_OUTSIDE:
        done = pi.machine.run(*within, f"{folder}/by-the-daemon", check=False)
        assert done.returncode != 0, folder
        assert "Read-only file system" in done.stderr or "No such file" in done.stderr, done.stderr
    for folder in (ARCHIVE, STATE, INSTANCE):
        pi.machine.run(*within, f"{folder}/by-the-daemon")
        pi.machine.run("rm", f"{folder}/by-the-daemon")


def test_what_a_service_of_this_kind_does_not_need_is_refused(pi: Pi) -> None:
    """A program in the service's place gets no network, clock, mounts, modules or namespaces."""
    pi.machine.write("/etc/gymdbd/probe.py", _PROBE.read_text())
    pi.drop_in("[Service]\nExecStartPre=/usr/bin/python3 /etc/gymdbd/probe.py\n")
    pi.start()
    found = json.loads(pi.machine.run("cat", f"{STATE}/probe.json").stdout)
    assert {name: what for name, what in found.items() if what != "refused"} == {
        "an ordinary file in the state folder": "done",
        "a Unix socket": "done",
    }


def test_what_a_run_uses_of_the_machine_is_seen_within_the_service(pi: Pi) -> None:
    """/proc is read there, and /sys as far as the disk of a container has a device in it."""
    pi.configure({"often": {"every": "2s", "archive": ARCHIVE}})
    pi.start()
    pi.await_runs(1, job="often")
    pi.machine.run("systemctl", "stop", "gymdbd")
    line = json.loads(pi.machine.run("head", "-n1", f"{STATE}/ledger.jsonl").stdout)
    assert line["written"] >= line["size"]
    assert 0 < line["disk_free"] < line["disk_size"]
    assert line["disk_held"] >= line["size"]
    device = f"/sys/dev/block/$(stat -c %Hd:%Ld {ARCHIVE})/stat"
    if pi.machine.sh(f"test -e {device} && echo there || true"):
        assert line["device_written"] >= 0
    pi.machine.run("rm", CONFIG)


def test_the_public_status_is_for_the_group_of_the_databases_owner(pi: Pi) -> None:
    """The service may give no file away; it need not, if it is of that group itself."""
    pi.configure({"often": {"every": "2s", "archive": ARCHIVE}})
    pi.start()
    shown = ("stat", "-c", "%a %U:%G", "/run/gymdbd/status.public.json")
    of = until(lambda: pi.machine.run(*shown, check=False).stdout, "the public status")
    assert of.split() == ["640", "pi:pi"]
    pi.machine.run("systemctl", "stop", "gymdbd")
    pi.machine.run("rm", CONFIG)


def test_an_archive_that_the_unit_does_not_name_is_an_error_that_names_the_directive(
    pi: Pi,
) -> None:
    """The folder is the user's own, so that only systemd forbids it: the hint says where to."""
    pi.machine.sh("install -d -o pi -g pi -m 700 /srv/elsewhere")
    pi.configure({"elsewhere": {"every": "2s", "archive": "/srv/elsewhere"}})
    pi.start()
    run = pi.await_runs(1, job="elsewhere")[0]
    assert (run["state"], run["code"]) == ("failed", "not-writable")
    assert "Read-only file system" in run["error"]
    assert "ReadWritePaths=" in run["hint"]
    assert pi.machine.sh("ls -A /srv/elsewhere") == ""
    # As the table of the deploy README says.
    pi.drop_in("[Service]\nReadWritePaths=/srv/elsewhere\n")
    pi.machine.sh(f"systemctl stop gymdbd; rm {STATUS}; systemctl start gymdbd")
    assert pi.await_runs(1, job="elsewhere")[0]["state"] == "ok"
    pi.machine.run("systemctl", "stop", "gymdbd")
    pi.machine.run("rm", "-r", "/srv/elsewhere", CONFIG)

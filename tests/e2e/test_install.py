"""Installing on a Pi that has never seen gymdbd, doing it again, and taking it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.pi import ARCHIVE, CONFIG, DATABASE, INSTANCE, JOB, STATE

if TYPE_CHECKING:
    from tests.e2e.pi import Pi

_PATHS = "/etc/systemd/system/gymdbd.service.d/paths.conf"


def test_a_pi_gets_the_service_keeps_it_and_gives_it_back(fresh: Pi) -> None:
    """Install, install again, uninstall: each leaves what the reader of the guide expects."""
    _refuses_without_root(fresh)
    fresh.install()
    _is_installed(fresh)
    _the_package_is_whole(fresh)
    backup = fresh.gymdbd("backup", JOB)
    assert (backup["state"], backup["tables"]["members"]) == ("ok", 1)
    _can_be_repeated(fresh)
    _leaves_no_trace_but_data(fresh)


def _refuses_without_root(pi: Pi) -> None:
    done = pi.machine.run("/home/pi/gymdbd/deploy/install.sh", user="pi", check=False)
    assert (done.returncode, "run it as root" in done.stderr) == (1, True)


def _is_installed(pi: Pi) -> None:
    machine = pi.machine
    assert (pi.show("ActiveState"), pi.show("UnitFileState")) == ("active", "enabled")
    # The service is the database's owner, in folders of its own.
    assert pi.show("User") == "pi"
    owners = machine.sh(f"stat -c '%U %a' {STATE} {ARCHIVE} {CONFIG} /opt/gymdbd").splitlines()
    assert owners == ["pi 700", "pi 700", "root 644", "root 755"]
    # PEP 668: the system's Python is as it was, and still says that it takes nothing from pip.
    assert machine.run("python3", "-c", "import gymdbd", check=False).returncode == 1
    machine.sh("test -e /usr/lib/python3.11/EXTERNALLY-MANAGED")
    machine.sh("grep -q 'TH GYMDBD 1' /usr/local/share/man/man1/gymdbd.1")
    assert machine.sh("find /usr/local/lib /usr/lib/python3 -name '*gymdbd*'") == ""
    # The people of the gym can ask, without sudo.
    status = pi.gymdbd("status")
    assert (status["daemon_running"], list(status["jobs"])) == (True, [JOB])
    assert [one for one in pi.gymdbd("check")["checks"] if one["state"] == "error"] == []


def _the_package_is_whole(pi: Pi) -> None:
    """Only the wheels of gymdbd and its dependencies are here: no checkout, no test tools."""
    machine = pi.machine
    assert "usage: gymdbd " in machine.sh("cd / && /opt/gymdbd/bin/python -m gymdbd --help")
    assert "gym_system_backup_" in machine.run("gymdbd", "demo", user="pi").stdout
    machine.sh(
        "grep -q '^MIT License$' /opt/gymdbd/lib/python3.*/site-packages/gymdbd-*/licenses/*/*"
    )


def _can_be_repeated(pi: Pi) -> None:
    machine = pi.machine
    machine.sh(f"sed -i 's/days: 14/days: 21/' {CONFIG}; echo '# ours' >>{_PATHS}")
    kept = f"sha256sum {CONFIG} {_PATHS} {ARCHIVE}/*; find /etc /opt /home/pi -xdev | sort"
    before = machine.sh(kept)
    pi.install()
    assert machine.sh(kept) == before
    _is_installed(pi)
    assert pi.show("NRestarts") == "0"


def _leaves_no_trace_but_data(pi: Pi) -> None:
    machine = pi.machine
    before = machine.sh(f"sha256sum {ARCHIVE}/*.db {ARCHIVE}/*.json {CONFIG} {STATE}/status.json")
    for _ in range(2):
        machine.run("/home/pi/gymdbd/deploy/install.sh", "--uninstall")
    after = machine.sh(f"sha256sum {ARCHIVE}/*.db {ARCHIVE}/*.json {CONFIG} {STATE}/status.json")
    assert after == before
    assert pi.show("LoadState") == "not-found"
    machine.sh("! test -e /opt/gymdbd && ! command -v gymdbd && ! pgrep -x gymdbd")
    left = "find / -xdev -name '*gymdbd*' -not -path '/home/*' -not -path '/var/log/*'"
    assert sorted(machine.sh(left).split()) == ["/etc/gymdbd", "/var/lib/gymdbd"]


def test_a_user_of_its_own_needs_the_group_of_the_databases_folder(fresh: Pi) -> None:
    """The deploy README's other way, a user `gymdbd`: what it cannot do before, and can after.

    One who may only read makes no checkpoint, and leaves nothing beside a database that nobody has
    open: the application could not use it.
    """
    machine = fresh.machine
    machine.sh("adduser --quiet --system --group --home /var/lib/gymdbd gymdbd")
    assert "may not write" in fresh.install("--user", "gymdbd")
    before = fresh.gymdbd("backup", JOB, user="gymdbd")
    assert before["state"] == "ok"
    assert "this user may not write the database" in before["checkpoint"]["skipped"]
    _close_everything(fresh)
    closed = fresh.gymdbd("backup", JOB, user="gymdbd")
    assert (closed["state"], bool(closed["checkpoint"]["skipped"])) == ("ok", True)
    assert machine.sh(f"ls {INSTANCE}").split() == ["gym_system.db"]

    machine.sh(_SHARED_FOLDER)
    fresh.start_gym()
    assert "may not write" not in fresh.install("--user", "gymdbd")
    assert _gym_may_write(fresh)
    after = fresh.gymdbd("backup", JOB, user="gymdbd")
    assert (after["state"], after["checkpoint"]["skipped"]) == ("ok", "")
    _close_everything(fresh)
    assert fresh.gymdbd("backup", JOB, user="gymdbd")["state"] == "ok"
    # Whatever was created beside the database meanwhile: the application is at home with it.
    fresh.start_gym()
    assert _gym_may_write(fresh)


# As deploy/README.md says.
_SHARED_FOLDER = f"""
adduser --quiet pi gymdbd
adduser --quiet gymdbd pi
chmod 2770 {INSTANCE}
chmod 0660 {DATABASE}
systemctl restart gymdbd
"""


def _close_everything(pi: Pi) -> None:
    """Stop the application; the last connection removes -wal and -shm, as a clean end does."""
    pi.machine.run("systemctl", "stop", "gym")
    pi.machine.run("sqlite3", DATABASE, "SELECT count(*) FROM members", user="pi")
    assert pi.machine.sh(f"ls {INSTANCE}").split() == ["gym_system.db"]


def _gym_may_write(pi: Pi) -> bool:
    """Rent a locker, and write at full rate for some commits."""
    pi.rent()
    pi.start_writer()
    pi.stop_writer()
    return True

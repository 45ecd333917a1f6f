"""Somebody is told: of a night that fails and of its recovery, once each, whatever happens between.

The messages arrive at a real mail server and a real web server, by way of systemd's sandbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.e2e.mac import Mac
from tests.e2e.pi import ARCHIVE, JOB
from tests.e2e.receivers import MAIL, MAIL_PORT, PASSWORD, USER, WEB, WEB_PORT, receivers
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pi import Pi

_URL = f"http://127.0.0.1:{WEB_PORT}"
_DROP_INS = "/etc/systemd/system/gymdbd.service.d"
_EXAMPLES = "/home/pi/gymdbd/deploy/systemd/gymdbd.service.d"
_WEB_URL = "/home/pi/web-url"
_CREDENTIALS = "/etc/gymdbd/credentials"
_SMTP = {"host": "127.0.0.1", "port": MAIL_PORT, "tls": "none", "user": USER}
_SECRETS = {
    "web": f"{_URL}/web",
    # A service that only apprise knows.
    "service": f"json://127.0.0.1:{WEB_PORT}/service",
    "ping": f"{_URL}/ping",
    "smtp": PASSWORD,
}
_NOTIFY: dict[str, Any] = {
    "after": "3s",
    "to": {
        "web": {"url": {"credential": "web"}},
        "service": {"url": {"credential": "service"}},
        "office": {
            "email": "boss@example.com",
            "smtp": {**_SMTP, "password": {"credential": "smtp"}},
        },
    },
}
# Where a message of each channel arrives, and what is in it.
_WAYS = ((MAIL, ""), (WEB, "'/web'"), (WEB, "'/service'"))


def test_a_backup_that_fails_is_told_once_and_so_is_its_recovery(pi: Pi, tmp_path: Path) -> None:
    """The installer provides for all of it; a daemon that was killed repeats nothing."""
    with receivers(pi.office.pi, tmp_path) as told:
        pi.configure(notify=_NOTIFY, every="2s", schedule=None, ping={"credential": "ping"})
        _provide(pi)
        pi.machine.run("chmod", "500", ARCHIVE)
        _all_are_told(pi, 1)
        for way, path in _WAYS:
            (first,) = told.got(way, about=path)
            assert f"{JOB} is failing" in str(first)
            assert "What to do: " in str(first)
        _kill_and_start(pi)
        pi.machine.run("gymdbd", "notify", user="pi")
        pi.machine.run("chmod", "700", ARCHIVE)
        _all_are_told(pi, 2)
        pi.machine.run("gymdbd", "notify", user="pi")
        for way, path in _WAYS:
            _, second = told.got(way, about=path)
            assert f"{JOB} is well again" in str(second)
        pings = {one["path"].partition("?")[0] for one in told.got(WEB, about="/ping")}
        assert pings == {"/ping", "/ping/start", "/ping/fail"}


def _all_are_told(pi: Pi, times: int) -> None:
    """Wait, at most a minute longer than `after`, until all channels were told as often."""
    sent = ("GYMDBD_EVENT=notice sent", "_SYSTEMD_UNIT=gymdbd.service")
    until(
        lambda: len(pi.machine.journal(*sent)) >= times * len(_WAYS),
        f"the notices: {pi.machine.journal(*sent)}",
        within_s=63,
    )


def _provide(pi: Pi) -> None:
    """Install what that configuration needs. Backups are made even if no secret is there yet."""
    said = pi.install("--with", "notify", check=False)
    pi.await_runs(1)
    for name in _SECRETS:
        assert f"error    credential {name}: " in said
    for name, secret in _SECRETS.items():
        pi.machine.write(f"{_CREDENTIALS}/{name}", f"{secret}\n", mode=0o600)
    assert pi.machine.sh(f"stat -c '%U %a' {_CREDENTIALS}") == "root 700\n"
    pi.machine.run("systemctl", "restart", "gymdbd")
    found = {one["name"]: one["state"] for one in pi.gymdbd("check")["checks"]}
    assert (found["network"], found["extra notify"], "error" in found.values()) == (
        "ok",
        "ok",
        False,
    )


def _kill_and_start(pi: Pi) -> None:
    """End the daemon without a word, start it again, and let two more runs be seen."""
    pi.machine.run("systemctl", "kill", "--signal=KILL", "gymdbd")
    until(lambda: pi.show("ActiveState") != "active", "the end of the daemon")
    pi.start()
    ended = len(pi.runs())
    pi.await_runs(min(ended + 2, 20))


def test_each_of_two_machines_tells_that_the_other_is_away(bootable: Pi, tmp_path: Path) -> None:
    """No cloud is needed: the Pi tells of a Mac that comes no more, the Mac of a Pi that is off."""
    pi, (here, there) = bootable, (tmp_path / "pi", tmp_path / "mac")
    here.mkdir()
    there.mkdir()
    mac = Mac(pi.office.mac, there, pi.host_key)
    with receivers(pi.office.pi, here) as of_pi, receivers(pi.office.mac, there) as of_mac:
        try:
            _let_them_watch_each_other(pi, mac)
            daemon = mac.start_daemon()
            _await_health(pi, "ok")
            daemon.terminate()
            daemon.communicate(timeout=60)
            _await_health(pi, "late")
            # As it would within five minutes, the daemon looks.
            pi.machine.run("systemctl", "reload", "gymdbd")
            (told,) = of_pi.await_count(WEB, 1)
            assert "mac-office last came" in told["text"]
            assert of_mac.got(WEB) == []
            daemon = mac.start_daemon()
            _await_health(pi, "ok")
            pi.machine.power_off()
            (told,) = of_mac.await_count(WEB, 1)
            assert "raspberry-pi" in told["title"] + told["text"]
        finally:
            mac.end()


def _await_health(pi: Pi, health: str) -> None:
    """Wait until this is how the Mac is, as the Pi sees it."""
    until(lambda: pi.gymdbd("status")["jobs"]["office"]["health"] == health, f"{health}: the Mac")


def _let_them_watch_each_other(pi: Pi, mac: Mac) -> None:
    """Start the Pi, whose backups are made at night, and let the Mac pull every two seconds."""
    pi.machine.boot()
    pi.start_gym()
    pi.machine.write(_WEB_URL, f"{_URL}/pi", owner="pi", mode=0o600)
    watch = {"kind": "watch", "peer": "mac-office", "max_age": "10s"}
    nightly = {"schedule": "0 3 * * *"}
    notify = {"after": "1s", "to": {"web": {"url": {"file": _WEB_URL}}}}
    pi.configure({JOB: nightly, "office": watch}, notify)
    pi.machine.sh(f"cp {_EXAMPLES}/network.conf.example {_DROP_INS}/network.conf")
    pi.machine.run("systemctl", "daemon-reload")
    assert pi.gymdbd("backup", JOB)["state"] == "ok"
    pi.machine.run("systemctl", "restart", "gymdbd")
    flags = ("--status", "/run/gymdbd/status.public.json", "--peer", "mac-office")
    pi.let_in(pi.restricted(mac.public_key, *flags))
    mac.configure(
        {"after": "1s", "to": {"web": {"url": f"{_URL}/mac"}}},
        schedule=None,
        every="2s",
        retry={"attempts": 1},
    )

"""Somebody is told: of a night that fails and of its recovery, once each, whatever happens between.

The messages arrive at a real mail server and a real web server, by way of systemd's sandbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.e2e.pi import ARCHIVE, JOB
from tests.e2e.receivers import MAIL, MAIL_PORT, PASSWORD, USER, WEB, WEB_PORT, receivers
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pi import Pi

_URL = f"http://127.0.0.1:{WEB_PORT}"
_DROP_INS = "/etc/systemd/system/gymdbd.service.d"
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


def test_a_backup_that_fails_is_told_once_and_so_is_its_recovery(pi: Pi, tmp_path: Path) -> None:
    """The installer provides for all of it; a daemon that was killed repeats nothing."""
    with receivers(pi.office.pi, tmp_path) as told:
        pi.configure(notify=_NOTIFY, every="2s", schedule=None, ping={"credential": "ping"})
        _provide(pi)
        pi.await_runs(1)
        pi.machine.run("mv", ARCHIVE, f"{ARCHIVE}.elsewhere")
        for way, path in ((MAIL, ""), (WEB, "'/web'"), (WEB, "'/service'")):
            (first,) = told.await_count(way, 1, about=path)
            assert JOB in first["title"] + first["text"]
            assert "What to do" in first["text"]
        _kill_and_start(pi)
        _look(pi)
        assert len(told.got(MAIL)) == 1
        pi.machine.run("mv", f"{ARCHIVE}.elsewhere", ARCHIVE)
        for way, path in ((MAIL, ""), (WEB, "'/web'"), (WEB, "'/service'")):
            assert JOB in told.await_count(way, 2, about=path)[1]["title"]
        _kill_and_start(pi)
        _look(pi)
        counts = [len(told.got(WEB, about=path)) for path in ("'/web'", "'/service'")]
        assert (len(told.got(MAIL)), counts) == (2, [2, 2])
        pings = {one["path"].partition("?")[0] for one in told.got(WEB, about="/ping")}
        assert pings == {"/ping", "/ping/start", "/ping/fail"}


def _provide(pi: Pi) -> None:
    """Install what that configuration needs, first while the secrets are not there yet."""
    said = pi.install(check=False)
    assert pi.show("ActiveState") == "active"
    for name in _SECRETS:
        assert f"error    credential {name}: " in said
    assert "ok       network: " in said
    for name, secret in _SECRETS.items():
        pi.machine.write(f"{_CREDENTIALS}/{name}", f"{secret}\n", mode=0o600)
    folder = pi.machine.sh(f"stat -c '%U %a' {_CREDENTIALS}; cat {_DROP_INS}/credentials.conf")
    assert folder.startswith("root 700\n")
    said = pi.install()
    assert "ok       extra notify: apprise is installed" in said
    assert "error" not in said
    assert pi.machine.sh(f"cat {_DROP_INS}/credentials.conf") == folder.partition("\n")[2]


def _kill_and_start(pi: Pi) -> None:
    """End the daemon without a word, start it again, and let two more runs be seen."""
    pi.machine.run("systemctl", "kill", "--signal=KILL", "gymdbd")
    until(lambda: pi.show("ActiveState") != "active", "the end of the daemon")
    pi.start()
    ended = len(pi.runs())
    pi.await_runs(min(ended + 2, 20))


def _look(pi: Pi) -> None:
    """Look by hand, as the daemon does from time to time."""
    pi.machine.run("gymdbd", "notify", user="pi")

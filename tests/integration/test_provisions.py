"""What a configuration needs of the installation, and what `check` says if it is missing.

A double of systemctl answers what systemd would, because no unit can be loaded here; the booted
machines have a real one.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config.notify import ChannelConfig
from gymdbd.jobs.finding import ERROR, WARNING
from gymdbd.runs import provisions
from gymdbd.runs.unit import Unit
from tests.support.command import gymdbd
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

_SYSTEMCTL = """#!/bin/sh
case "$1" in
show) cat <<'END'
{shown}
END
;;
cat) echo '{text}' ;;
esac
"""
# As systemd 252 shows the unit as shipped.
_CLOSED = {
    "LoadState": "loaded",
    "PrivateNetwork": "yes",
    "RestrictAddressFamilies": "AF_UNIX",
    "IPAddressAllow": "",
    "IPAddressDeny": "::/0 0.0.0.0/0",
    "NoNewPrivileges": "yes",
}
_OPEN = {
    "PrivateNetwork": "no",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "IPAddressDeny": "",
}


def _configuration(folder: Path, to: dict[str, dict[str, Any]], **more: Any) -> Path:
    (folder / "archive").mkdir()
    job = {"every": "1h", "database": "/srv/gym.db", "archive": str(folder / "archive"), **more}
    path = write_config(folder, {"nightly": job}, notify={"to": to})
    path.chmod(0o600)
    return path


def _unit(folder: Path, config: Path, text: str = "", **changes: str) -> str:
    """Make systemctl tell of a unit that runs this configuration; return the PATH to it."""
    started = f"{{ path=/opt/gymdbd ; argv[]=/opt/gymdbd -c {config} run ; ignore_errors=no }}"
    shown = {**_CLOSED, "ExecStart": started, **changes}
    program = folder / "bin" / "systemctl"
    program.parent.mkdir()
    lines = "\n".join(f"{name}={value}" for name, value in shown.items())
    program.write_text(_SYSTEMCTL.format(shown=lines, text=text))
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def _checked(config: Path, path: str, *names: str) -> dict[str, tuple[str, str]]:
    """Return the state and the message of the checks with these names."""
    done = gymdbd("-c", config, "check", "--json", PATH=path)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    return {
        name: (checks[name]["state"], checks[name]["message"]) for name in checks if name in names
    }


def test_what_a_configuration_needs_is_printed_for_the_installer(tmp_path: Path) -> None:
    """Each thing once, even if two channels need it; a URL of the web needs no extra."""
    secret = tmp_path / "telegram"
    secret.touch(0o600)
    secret.write_text("tgram://token/chat\n")
    to: dict[str, dict[str, Any]] = {
        "owner": {"url": {"file": str(secret)}},
        "web": {"url": "https://ntfy.example/gym"},
        "later": {"url": {"credential": "later"}},
        "office": {
            "email": "boss@example.com",
            "smtp": {"host": "smtp.example.com", "user": "me", "password": {"credential": "smtp"}},
        },
        "mac": {"macos": True},
    }
    config = _configuration(tmp_path, to, ping={"credential": "smtp"})
    done = gymdbd("-c", config, "check", "--needs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "network the ping of nightly",
        "credential smtp",
        "network notices to owner",
        "extra notify",
        "network notices to web",
        "network notices to later",
        "credential later",
        "network notices to office",
    ]
    shown = json.loads(gymdbd("-c", config, "check", "--needs", "--json").stdout)
    assert {"kind": "extra", "name": "notify", "who": "notices to owner"} in shown["needs"]


def test_a_backup_alone_needs_nothing_of_the_installation(tmp_path: Path) -> None:
    """And no systemd is asked for it: it could hang."""
    config = write_config(
        tmp_path, {"nightly": {"every": "1h", "database": "/srv/g.db", "archive": str(tmp_path)}}
    )
    assert gymdbd("-c", config, "check", "--needs").stdout == ""
    path = _unit(tmp_path, config)
    (tmp_path / "bin" / "systemctl").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    gymdbd("-c", config, "check", PATH=path)
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "error"),
        (_OPEN, "ok"),
        ({**_OPEN, "PrivateNetwork": "yes"}, "error"),
        ({**_OPEN, "RestrictAddressFamilies": "AF_UNIX"}, "error"),
        ({**_OPEN, "RestrictAddressFamilies": "~"}, "ok"),
        ({**_OPEN, "RestrictAddressFamilies": "~AF_INET AF_INET6"}, "error"),
        ({**_OPEN, "IPAddressDeny": "::/0 0.0.0.0/0"}, "error"),
        ({**_OPEN, "IPAddressDeny": "::/0 0.0.0.0/0", "IPAddressAllow": "10.0.0.0/8"}, "ok"),
    ],
)
def test_check_sees_whether_the_unit_lets_its_jobs_use_the_network(
    tmp_path: Path, changes: dict[str, str], state: str
) -> None:
    """Whichever directive keeps them from it; the shell in which check runs has a network."""
    config = _configuration(tmp_path, {"web": {"url": "https://ntfy.example/gym"}})
    path = _unit(tmp_path, config, **changes)
    assert _checked(config, path, "network")["network"][0] == state


def test_check_names_a_credential_that_the_unit_does_not_load(tmp_path: Path) -> None:
    """One that it loads cannot be seen, where the service does not run and its folder is root's."""
    to = {"web": {"url": {"credential": "web"}}, "other": {"url": {"credential": "other"}}}
    config = _configuration(tmp_path, to)
    path = _unit(tmp_path, config, "LoadCredential=web:/etc/gymdbd/credentials/web", **_OPEN)
    found = _checked(config, path, "credential web", "credential other")
    assert found["credential other"][0] == "error"
    assert "is not handed what notices to other needs" in found["credential other"][1]
    assert found["credential web"][0] == "warning"


@pytest.mark.parametrize("other", ["LoadState", "ExecStart", "no systemd", "hangs"])
def test_check_says_nothing_of_a_unit_that_does_not_run_this_configuration(
    tmp_path: Path, other: str
) -> None:
    """None is installed, another configuration is its own, or systemd does not answer."""
    config = _configuration(tmp_path, {"web": {"url": {"credential": "web"}}})
    changes = {other: f"not-{other}"} if other[0].isupper() else {}
    path = _unit(tmp_path, config, **changes)
    if other in ("no systemd", "hangs"):
        does = "exit 1" if other == "no systemd" else "exec sleep 60"
        (tmp_path / "bin" / "systemctl").write_text(f"#!/bin/sh\n{does}\n")
    assert _checked(config, path, "network", "credential web") == {}


def test_check_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    """A service that only apprise knows cannot be told without it."""
    config = _configuration(tmp_path, {"owner": {"url": "tgram://token/chat"}})
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['apprise'] = None\n")
    done = gymdbd(
        "-c", config, "check", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    )
    assert "error    extra notify: apprise is not installed, which notices to owner" in done.stdout
    assert "deploy/install.sh --with notify" in done.stdout
    assert done.returncode == 1


def test_check_says_where_a_channel_cannot_work(tmp_path: Path) -> None:
    """Notifications of macOS under Linux or a LaunchDaemon, and a sendmail that gains rights."""
    mac = ChannelConfig(name="mac", macos=True)
    plist = tmp_path / "daemon.plist"
    assert [one.state for one in provisions.of_channel(mac, None, "linux")] == [ERROR]
    assert list(provisions.of_channel(mac, None, "darwin", plist)) == []
    plist.touch()
    (found,) = provisions.of_channel(mac, None, "darwin", plist)
    assert (found.state, "runs without a login" in found.message) == (ERROR, True)
    mail = ChannelConfig(name="office", email="boss@example.com")
    closed = Unit(has_network=True, may_gain_rights=False, credentials=frozenset())
    assert [one.state for one in provisions.of_channel(mail, closed)] == [WARNING]
    assert list(provisions.of_channel(mail, None)) == []


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (0o755, None),
        (0o644, "is not there, or may not be run"),
        (0o777, "will not be run, because others could have written it"),
        (None, "is not there, or may not be run"),
    ],
)
def test_check_says_that_a_program_of_a_channel_cannot_be_run(
    tmp_path: Path, mode: int | None, told: str | None
) -> None:
    """Otherwise that shows when somebody is to be told first."""
    program = tmp_path / "tell"
    if mode is not None:
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
    found = list(provisions.of_channel(ChannelConfig(name="own", command=(str(program),)), None))
    assert [(check.state, str(told) in check.message) for check in found] == (
        [(ERROR, True)] if told else []
    )


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (None, 0o600, "cannot be read (No such file or directory)"),
        ("https://ntfy.sh/hunter2", 0o644, "is not used: others may read it"),
        ("http://ntfy.sh/hunter2", 0o600, "expected https://"),
        ("ntfy.sh/hunter2", 0o600, "expected a URL"),
        ("https://ntfy.sh/hunter2", 0o600, ""),
    ],
)
def test_a_secret_in_a_file_is_tried(
    tmp_path: Path, content: str | None, mode: int, told: str
) -> None:
    """Otherwise its fault would show when somebody is to be told for the first time."""
    secret = tmp_path / "secret"
    if content:
        secret.touch(mode)
        secret.chmod(mode)
        secret.write_text(content)
    path = _configuration(tmp_path, {"owner": {"url": {"file": str(secret)}}})
    done = gymdbd("-c", path, "check", "--json")
    checks = [c for c in json.loads(done.stdout)["checks"] if c["name"].startswith("secret")]
    assert [told in check["message"] for check in checks] == ([True] if told else [])
    assert "hunter2" not in done.stdout + done.stderr

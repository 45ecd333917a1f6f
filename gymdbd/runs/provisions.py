"""The checks of what a configuration needs of the installation: extras, network, credentials."""

from __future__ import annotations

import sys
from importlib import util
from typing import TYPE_CHECKING

from gymdbd import files, trust
from gymdbd.config import needs, secrets, urls
from gymdbd.config.notify import NOBODY
from gymdbd.errors import SecretError
from gymdbd.jobs.finding import ERROR, OK, WARNING, Check
from gymdbd.runs import unit
from gymdbd.words import LAUNCH_DAEMON

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.config.needs import Kept
    from gymdbd.config.notify import ChannelConfig
    from gymdbd.runs.unit import Unit

# What an extra is there for.
_PACKAGES = {"notify": "apprise", "ssh": "paramiko"}
_RESTART = "then systemctl restart gymdbd"


def examine(settings: Config) -> Iterator[Check]:
    """Check that all is there, as far as it can be seen from here."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for need in needs.of(settings):
        wanted.setdefault((need.kind, need.name), []).append(need.who)
    # Most configurations need nothing, and need not wait for systemd.
    provider = unit.of(settings.source) if wanted else None
    for (kind, name), who in wanted.items():
        if kind == "extra":
            yield _extra(name, ", ".join(who))
        elif provider and kind == "network":
            yield _network(provider, ", ".join(who))
        elif provider:
            yield _credential(provider, name, ", ".join(who))
    for kept in needs.kept(settings):
        yield from _secret(kept)
    if settings.notify is None:
        yield Check("notify", WARNING, "nobody is told if a job fails or is late", NOBODY)
        return
    for channel in settings.notify.to.values():
        yield from of_channel(channel, provider)


def _secret(kept: Kept) -> Iterator[Check]:
    """Yield why a secret in a file cannot be used; the others can be had in the service alone."""
    if not kept.secret.file:
        return
    name = f"secret for {kept.who}"
    try:
        found = kept.secret.read()
        if kept.is_url:
            urls.split(found)
    except ValueError as error:
        yield Check(name, ERROR, f"{kept.secret.place}: {error}", "correct the URL in it")
    except SecretError as error:
        is_closed = isinstance(error.__cause__, PermissionError)
        state = WARNING if is_closed else ERROR
        hint = "ask as the user of the service, or as root" if is_closed else error.hint
        yield Check(name, state, error.message, hint)


def of_channel(
    channel: ChannelConfig,
    provider: Unit | None,
    platform: str = sys.platform,
    launch_daemon: Path = LAUNCH_DAEMON,
) -> Iterator[Check]:
    """Yield why a channel cannot work here, whatever is installed."""
    name = f"notify {channel.name}"
    if channel.macos and platform != "darwin":
        hint = "use another channel: url, email or command"
        yield Check(name, ERROR, "macos: true shows nothing on a machine that is no Mac", hint)
    elif channel.macos and files.is_there(launch_daemon):
        hint = "use another channel, or install the agent instead of the LaunchDaemon"
        message = f"{launch_daemon} runs without a login, and may show nothing on the screen"
        yield Check(name, ERROR, message, hint)
    if channel.email and not channel.smtp and provider and not provider.may_gain_rights:
        message = f"the sendmail of Postfix or Exim gains rights, which {unit.NAME} forbids"
        hint = "add smtp: with the mail server, or use a sendmail such as msmtp"
        yield Check(name, WARNING, message, hint)
    if channel.command:
        yield from _program(name, channel.command)


def _program(name: str, command: Sequence[str]) -> Iterator[Check]:
    import shutil  # noqa: PLC0415 - few configurations name a program

    if shutil.which(command[0]) is None:
        hint = "correct command: (a list of words, without a shell), or chmod +x the program"
        yield Check(name, ERROR, f"{command[0]} is not there, or may not be run", hint)
    elif doubt := trust.doubt_of_command(command):
        message = f"{command[0]} will not be run, because others could have written it: "
        yield Check(name, ERROR, message + doubt.reason, doubt.remedy)


def _extra(name: str, who: str) -> Check:
    package = _PACKAGES[name]
    if util.find_spec(package):
        return Check(f"extra {name}", OK, f"{package} is installed, for {who}")
    hint = (
        f"deploy/install.sh --with {name} installs it (as root; on a Mac as you), and so does "
        f"{sys.executable} -m pip install '.[{name}]' in the folder of the repository"
    )
    return Check(f"extra {name}", ERROR, f"{package} is not installed, which {who} needs", hint)


def _network(provider: Unit, who: str) -> Check:
    if provider.has_network:
        return Check("network", OK, f"{unit.NAME} has a network, for {who}")
    hint = (
        "run deploy/install.sh again, or copy network.conf.example beside paths.conf "
        f"(deploy/README.md) and systemctl daemon-reload; {_RESTART}"
    )
    return Check("network", ERROR, f"{unit.NAME} lets nobody use the network, as {who} must", hint)


def _credential(provider: Unit, name: str, who: str) -> Check:
    title = f"credential {name}"
    if name not in provider.credentials:
        hint = f"run deploy/install.sh again, which adds LoadCredential={name}; {_RESTART}"
        return Check(title, ERROR, f"{unit.NAME} is not handed what {who} needs", hint)
    known = unit.holds(name)
    if known:
        return Check(title, OK, f"{unit.NAME} is handed it, for {who}")
    file = secrets.CREDENTIALS / name
    if known is None:
        hint = "start the service and ask as its user, or as root"
        return Check(title, WARNING, f"whether {file} is there cannot be seen from here", hint)
    hint = f"sudo install -m 600 /dev/stdin {file}, the secret, Enter, Ctrl-D; {_RESTART}"
    message = f"{unit.NAME} has no secret for {who}: {file} is not there or was empty at its start"
    return Check(title, ERROR, message, hint)

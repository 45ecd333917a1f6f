"""What a configuration needs of the installation: extras, the network, credentials of systemd's.

The installer provides for it, and `gymdbd check` names what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gymdbd.config import urls
from gymdbd.config.kinds import PullConfig
from gymdbd.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.config.notify import ChannelConfig
    from gymdbd.config.secrets import Secret

EXTRA, NETWORK, CREDENTIAL = "extra", "network", "credential"


@dataclass(frozen=True)
class Need:
    """One thing that is needed: an `extra`, the `network` or a `credential`, and what needs it.

    The name of an extra is that in pyproject.toml; the network has none.
    """

    kind: str
    name: str
    who: str


class Kept(NamedTuple):
    """A secret, what needs it, and whether it is a URL."""

    who: str
    secret: Secret
    is_url: bool


def of(settings: Config) -> Iterator[Need]:
    """Yield what a configuration needs, each thing as often as something needs it.

    A URL that cannot be read now, for example because only the service is handed it, is taken for
    one that needs no extra.
    """
    for job in settings.jobs.values():
        if isinstance(job, PullConfig):
            yield Need(NETWORK, "", job.name)
        if job.ping:
            yield Need(NETWORK, "", f"the ping of {job.name}")
        yield from _credentials(_of_job(job))
    for channel in settings.notify.to.values() if settings.notify else ():
        yield from _of_channel(channel, f"notices to {channel.name}")
        yield from _credentials(_within(channel))


def kept(settings: Config) -> Iterator[Kept]:
    """Yield every secret of a configuration."""
    for job in settings.jobs.values():
        yield from _of_job(job)
    for channel in settings.notify.to.values() if settings.notify else ():
        yield from _within(channel)


def _of_job(job: JobConfig) -> Iterator[Kept]:
    if job.ping:
        yield Kept(f"the ping of {job.name}", job.ping, is_url=True)


def _within(channel: ChannelConfig) -> Iterator[Kept]:
    if channel.url:
        yield Kept(f"notices to {channel.name}", channel.url, is_url=True)
    if channel.smtp and channel.smtp.password:
        yield Kept(f"notices to {channel.name}", channel.smtp.password, is_url=False)


def _credentials(found: Iterable[Kept]) -> Iterator[Need]:
    for who, secret, _ in found:
        if secret.credential:
            yield Need(CREDENTIAL, secret.credential, who)


def _of_channel(channel: ChannelConfig, who: str) -> Iterator[Need]:
    # A program of the user's, and a sendmail that works in the unit, nearly always need it as well.
    if not channel.macos:
        yield Need(NETWORK, "", who)
    if channel.url and _is_of_apprise(channel.url):
        yield Need(EXTRA, "notify", who)


def _is_of_apprise(url: Secret) -> bool:
    try:
        return not urls.is_web(url.read())
    except SecretError:
        return False

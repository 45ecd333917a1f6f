"""What a configuration needs of the installation: extras, the network, credentials of systemd's.

The installer provides for it, and `gymdbd check` names what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.config import urls
from gymdbd.config.kinds import PullConfig
from gymdbd.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.config.config import Config
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
            yield from _of_secret(job.ping, f"the ping of {job.name}")
    for channel in settings.notify.to.values() if settings.notify else ():
        yield from _of_channel(channel, f"notices to {channel.name}")


def _of_channel(channel: ChannelConfig, who: str) -> Iterator[Need]:
    # A program of the user's, and a sendmail that works in the unit, nearly always need it as well.
    if not channel.macos:
        yield Need(NETWORK, "", who)
    if channel.url and _is_of_apprise(channel.url):
        yield Need(EXTRA, "notify", who)
    for secret in (channel.url, channel.smtp and channel.smtp.password):
        yield from _of_secret(secret, who) if secret else ()


def _of_secret(secret: Secret, who: str) -> Iterator[Need]:
    if secret.credential:
        yield Need(CREDENTIAL, secret.credential, who)


def _is_of_apprise(url: Secret) -> bool:
    try:
        return not urls.is_web(url.read())
    except SecretError:
        return False

"""What a configuration needs of the installation: extras, the network, credentials of systemd's.

The installer provides for it, and `gymdbd check` names what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.config.kinds import PullConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.config.config import Config


@dataclass(frozen=True)
class Need:
    """One thing that is needed: an `extra`, the `network` or a `credential`, and what needs it.

    The name of an extra is that in pyproject.toml; the network has none.
    """

    kind: str
    name: str
    who: str


def of(settings: Config) -> list[Need]:
    """Return what a configuration needs, each thing as often as something needs it."""
    return list(_of_jobs(settings))


def _of_jobs(settings: Config) -> Iterator[Need]:
    for job in settings.jobs.values():
        if isinstance(job, PullConfig):
            yield Need("network", "", job.name)

"""The page to look at: written when its content has changed, and at least every hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.config.config import Config
    from gymdbd.runs.overview import Overview


def write(settings: Config, seen: Overview) -> datetime | None:
    """Write the page of `report:` if it has changed; return when it must be written again.

    None if the configuration asks for no page. Raises GymdbdError if it cannot be written.
    """
    del settings, seen
    return None

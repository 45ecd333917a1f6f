"""How far what was chosen by a time is from that time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import clock, words

if TYPE_CHECKING:
    from datetime import datetime, tzinfo


@dataclass(frozen=True)
class Distance:
    """When what was chosen by a time was made, and the time that was asked for."""

    made: datetime
    asked: datetime

    @property
    def _seconds(self) -> float:
        return (self.asked - self.made).total_seconds()

    def describe(self, zone: tzinfo) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"asked_at": clock.to_text(self.asked, zone), "before_s": round(self._seconds)}

    def shown(self, zone: tzinfo) -> str:
        """Return it as text, without the time at which it was made."""
        asked = clock.to_minute(self.asked, zone)
        return f"{words.age(self._seconds)} before what was asked ({asked})"

    def line(self, zone: tzinfo) -> str:
        """Return it as a line of its own."""
        return f"made {clock.to_minute(self.made, zone)}, {self.shown(zone)}"

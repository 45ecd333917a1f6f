"""How long a limit makes a pull take, foretold: meanwhile the other side holds a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import files, words
from gymdbd.jobs.pull.result import Limited
from gymdbd.remote import delta

if TYPE_CHECKING:
    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context
    from gymdbd.remote.delta import Plan
    from gymdbd.source.fingerprint import Fingerprint

# A snapshot that is held longer is worth a warning.
LONG_S = 10 * 60.0
_MINUTE_S = 60


class Foresight:
    """Warns once if the limit of a pull holds a snapshot over there for long."""

    def __init__(self, job: PullConfig, context: Context) -> None:
        self._job = job
        self._context = context
        self._is_known = False
        self._has_wal = True
        self._warning = ""

    def plan(self, plan: Plan, remote: Fingerprint) -> None:
        """Foretell by a plan; one by digest shows only later how much differs."""
        self._has_wal = remote.journal_mode == "wal"
        if plan.since is not None:
            frames = remote.frames - plan.since.frames
            self.expect(min(frames * remote.page_size, remote.size_bytes))
        elif plan.strategy == delta.FULL:
            self.expect(remote.size_bytes)

    def expect(self, size: int) -> None:
        """Foretell by how many bytes of pages will come; only the first time counts."""
        limit, clock = self._job.limit, self._context.clock
        if limit is None or self._is_known:
            return
        self._is_known = True
        seconds = limit.seconds(size, clock.now(), clock.zone)
        if seconds <= LONG_S:
            return
        self._warning = f"at {limit}, {takes(size, seconds)}: {self._effect(seconds)}"
        self._context.log.warning(
            "snapshot held for long", reason=self._warning, size=size, seconds=round(seconds)
        )

    def report(self, waited_s: float) -> Limited | None:
        """Return what the result has of the limit, None if there is none."""
        limit = self._job.limit
        if limit is None:
            return None
        if waited_s:
            self._context.log.info("limit kept", limit=str(limit), waited_s=round(waited_s, 3))
        return Limited(
            limit=str(limit), waited_s=round(waited_s, 3), limit_warning=self._warning or None
        )

    def _effect(self, seconds: float) -> str:
        from gymdbd.source.server import MAX_SNAPSHOT_S  # noqa: PLC0415 - hardly any pull needs it

        host = self._job.host
        if self._job.method == "scp":
            return "if the application writes in that time, the copy is refused"
        if not self._has_wal:
            return (
                f"the database on {host} has no WAL, and if the application writes in that time, "
                "the pull begins again"
            )
        grows = f"as long as the snapshot is held, the WAL on {host} grows with what is written"
        if seconds <= MAX_SNAPSHOT_S:
            return grows
        return f"{grows}; {host} ends it after half an hour, and the pull goes on with the next"


def takes(size: int, seconds: float) -> str:
    """Return how long a transfer takes at most, in words."""
    minutes = max(1, round(seconds / _MINUTE_S))
    return (
        f"{files.to_size(size)} take up to {words.counted(minutes, 'minute')}, less as far as the "
        "pages can be compressed"
    )

"""What the other machine of a pull has told of its jobs: asked for with a pull, and kept.

It lies beside the replica `NAME` as `.NAME.peer.json`. Whatever the other side answers, or does
not, the pull goes on. An answer stays until the next one: if none comes any more, it grows old.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, clock, files, words
from gymdbd.errors import DeadlineError, StoppedError
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context
    from gymdbd.remote.client import Session

# A pull that finds nothing new costs a kilobyte, and so asks seldom; another one asks on its way.
_EVERY = timedelta(hours=1)
_ON_THE_WAY = timedelta(minutes=1)
_MOST_BYTES = 64 * 1024
_MOST_SECONDS = 250_000_000_000
_MOST_TEXT = 8 * 1024
NOT_ASKED = "none"


@dataclass(frozen=True, kw_only=True)
class Told:
    """The last answer of a machine: its `text`, when that came, and what time it was over there.

    `their_now` is in seconds since 1970; `refused` is why the newest question, at `asked_at`, has
    had no answer, "" if it had.
    """

    host: str
    asked_at: str
    refused: str = ""
    told_at: str = ""
    their_now: float = 0.0
    text: str = ""


def path(job: PullConfig) -> Path:
    """Return where the answer is kept."""
    replica = files.resolved(job.replica)
    return replica.with_name(f".{replica.name}.peer.json")


def read(job: PullConfig) -> Told | None:
    """Return what the host of a job has told; None if it was never asked."""
    try:
        told = bounded.typed(Told, bounded.parse(bounded.read(path(job), _MOST_BYTES)))
        clock.from_text(told.asked_at)
        clock.from_text(told.told_at or told.asked_at)
    except (OSError, *bounded.FAULTS, TypeError, AttributeError):
        return None
    return told if told.host == job.host else None


class Question:
    """Whether a pull is to ask, and what it then keeps."""

    def __init__(self, job: PullConfig, context: Context) -> None:
        self._job = job
        self._context = context
        self._known = read(job)
        self._now = context.clock.now()

    @property
    def is_due(self) -> bool:
        """Return whether even a pull that finds nothing new is to ask.

        A machine that has never answered is asked only on the way.
        """
        return self._known is not None and self._known.text != "" and self._is_over(_EVERY)

    def ask(self, session: Session) -> None:
        """Ask if it is time, as the last of a session, and keep what comes."""
        is_refused = not session.is_served or self._job.remote_status == NOT_ASKED
        if is_refused or not self._is_over(_ON_THE_WAY):
            return
        asked_at = clock.to_text(self._now, self._context.clock.zone)
        told = self._known or Told(host=self._job.host, asked_at=asked_at)
        told = replace(told, asked_at=asked_at, **self._answer(session))
        text = words.json_text(asdict(told))
        try:
            files.write_atomically(path(self._job), text.encode())
        except GymdbdError as error:
            self._context.log.warning("peer's status not kept", reason=error.message)

    def _answer(self, session: Session) -> dict[str, Any]:
        if not session.tells_status:
            return {"refused": "too-old" if session.tells_status is None else "not-allowed"}
        try:
            answer = session.status(self._job.remote_status)
        except (StoppedError, DeadlineError):
            raise
        except GymdbdError as error:
            self._context.log.info("peer's status not told", reason=error.message)
            return {"refused": error.code}
        now, text, refused = answer.get("now"), answer.get("text"), answer.get("refused")
        is_time = isinstance(now, (int, float)) and 0 <= now <= _MOST_SECONDS
        if is_time and isinstance(text, str) and 0 < len(text) <= _MOST_TEXT:
            at = clock.to_text(self._context.clock.now(), self._context.clock.zone)
            return {"refused": "", "told_at": at, "their_now": now, "text": text}
        return {"refused": refused if refused in ("missing", "denied") else "odd"}

    def _is_over(self, pause: timedelta) -> bool:
        if self._known is None:
            return True
        # Also after this machine's clock was set back.
        return not timedelta() <= self._now - clock.from_text(self._known.asked_at) < pause

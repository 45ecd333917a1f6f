"""How a run ended: one type for it, from the job to the status file and to `--json`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gymdbd.machine.use import Use

if TYPE_CHECKING:
    from gymdbd.jobs.result import Result
    from gymdbd.source.errors import GymdbdError, Told

GOOD_STATES = ("ok", "unchanged")
SUSPICIOUS = "suspicious"
UNREACHABLE = "unreachable"
BUSY = "busy"
_LONGEST_S = 1e12
_UNKNOWN = Use()


@dataclass(frozen=True)
class Recorded:
    """A result as a program reads it, from the status file or from the answer of a child."""

    content: dict[str, Any]

    @property
    def path(self) -> str | None:
        """Return where the backup lies that was made."""
        return text(self.content, "path")

    @property
    def waiting(self) -> str | None:
        """Return what waits for accept or reject."""
        return text(self.content, "waiting")

    @property
    def remarks(self) -> list[str]:
        """Return the remarks on the database."""
        found = self.content.get("remarks")
        return [str(remark) for remark in found] if isinstance(found, list) else []

    @property
    def newest(self) -> dict[str, Any] | None:
        """Return what is known of the newest row."""
        found = self.content.get("newest")
        return found if isinstance(found, dict) else None

    @property
    def verified(self) -> tuple[int, int] | None:
        """Return how many backups were read, and how many there are, if that was the work."""
        read, there = self.content.get("backups"), self.content.get("in_archive")
        return (len(read), there) if isinstance(read, list) and isinstance(there, int) else None

    def answered(self, waiting: str | None) -> Recorded:
        """Return the result with something else, or nothing, that waits."""
        return Recorded({**self.content, "waiting": waiting})

    def to_json(self) -> dict[str, Any]:
        """Return it as it was written."""
        return self.content

    recorded = to_json


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: what came of it, or what is wrong and what to do.

    `state` is `ok`, `unchanged`, `suspicious`, `unreachable`, `busy` or `failed`. A failed run may
    have a result all the same.
    """

    state: str = "ok"
    error: str | None = None
    hint: str | None = None
    code: str | None = None
    exit_code: int = 0
    result: Told | None = None

    @property
    def is_good(self) -> bool:
        """Say whether it counts as a success."""
        return self.state in GOOD_STATES

    def recorded(self) -> Recorded | None:
        """Return the result as the status file has it."""
        return Recorded(self.result.recorded()) if self.result is not None else None

    def problem(self) -> dict[str, str | None]:
        """Return what `--json` says of a failure."""
        return {"state": self.state, "error": self.error, "hint": self.hint, "code": self.code}

    def to_json(self) -> dict[str, Any]:
        """Return it as the status file and the answer of a child have it."""
        result = self.result.recorded() if self.result is not None else None
        return {**self.problem(), "exit_code": self.exit_code, "result": result}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Outcome:
        """Read what `to_json` wrote, in this release or in another one."""
        result, exit_code = content.get("result"), content.get("exit_code")
        return cls(
            state=text(content, "state") or "failed",
            error=text(content, "error"),
            hint=text(content, "hint"),
            code=text(content, "code"),
            exit_code=exit_code if isinstance(exit_code, int) else 1,
            result=Recorded(result) if isinstance(result, dict) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has ended; its times are RFC 3339, `due` is None for a run by hand.

    `use` is what it used of this machine.
    """

    run_id: str
    reason: str
    due: str | None
    started_at: str
    ended_at: str
    duration_s: float
    outcome: Outcome
    use: Use = _UNKNOWN

    def to_json(self) -> dict[str, Any]:
        """Return it as the answer of a child has it."""
        times = {name: value for name, value in vars(self).items() if name != "outcome"}
        return {**times, "use": self.use.to_json(), **self.outcome.to_json()}

    def brief(self) -> Ended:
        """Return it as the history of the status file has it."""
        return replace(self, outcome=replace(self.outcome, result=None), use=_UNKNOWN)

    def history(self) -> dict[str, Any]:
        """Return it as the history of the status file has it: what the ledger has is not there."""
        return {
            name: value for name, value in self.to_json().items() if name not in ("result", "use")
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Ended:
        """Read what `to_json` or `history` wrote, in this release or in another one."""
        return cls(
            run_id=text(content, "run_id") or "",
            reason=text(content, "reason") or "",
            due=text(content, "due"),
            started_at=text(content, "started_at") or "",
            ended_at=text(content, "ended_at") or "",
            duration_s=seconds(content, "duration_s") or 0.0,
            outcome=Outcome.from_json(content),
            use=Use.from_json(content.get("use")),
        )


def seconds(content: dict[str, Any], name: str) -> float | None:
    """Return the number of seconds under a name, None if there is none that a run can take."""
    found = content.get(name)
    return found if isinstance(found, (int, float)) and abs(found) < _LONGEST_S else None


def text(content: dict[str, Any], name: str) -> str | None:
    """Return the text under a name, None if there is none."""
    found = content.get(name)
    return found if isinstance(found, str) else None


def success(result: Result) -> Outcome:
    """Return the outcome of a run that has done its work."""
    return Outcome(state=result.state, result=result)


def failure(error: GymdbdError) -> Outcome:
    """Return the outcome of a run that failed with a known error."""
    return Outcome(
        state=error.state,
        error=error.message,
        hint=error.hint,
        code=error.code,
        exit_code=error.exit_code,
        result=error.result,
    )

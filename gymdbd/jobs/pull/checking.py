"""How much SQLite checks of a replica, and when.

Every pull proves that what arrived is equal to the snapshot over there: by the checksums of what
travelled, the number of pages, and the rows of every table. Whether that snapshot is sound is
another question, and to answer it every page has to be read:

* in full (`integrity_check`) at the first pull, once `full_verify_every` has passed, and always
  with `verify: full`;
* by `quick_check` after every pull while that takes no time worth sparing: the last one took less
  than 50 ms of processor time, or nobody knows how long it takes;
* otherwise by `quick_check` once `check_every` has passed, and at once where more happened than an
  ordinary commit does (another schema, a VACUUM, a new user_version), or where it is not known in
  what pages the new state differs from the last one (an interrupted pull, `method: scp`).

What is swapped in without a check is marked so in the replica's state, and as an old replica in
the archive it counts as unverified. It is checked where it lies before the next pull that has to
check, so that it is known which of the two is damaged.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from gymdbd import clock
from gymdbd.archive import proof
from gymdbd.errors import CopyDamagedError, VerificationError
from gymdbd.source.errors import SourceCorruptError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.pull.replica import Replica, State

_WORTH_SPARING_S = 0.05
# What no ordinary commit changes in a header: schema, encoding, vacuum mode, user_version.
_LASTING = slice(40, 72)


def has_passed(since: str, every: timedelta, now: datetime) -> bool:
    """Return whether that much time has passed; an unknown or future time counts as long ago.

    It may stem from another release, or from a clock that was wrong. A twentieth less is enough:
    of two daily pulls the second may come a second earlier in its day than the first.
    """
    try:
        age = now - clock.from_text(since)
    except (ValueError, TypeError):
        return True
    return not timedelta(0) <= age < every - every / 20


def least(job: PullConfig, state: State | None, now: datetime) -> str:
    """Return how much SQLite has to check of what may arrive, as far as the time tells.

    In full means that the pull takes no shortcut at all: every page is compared, too.
    """
    if state is None or has_passed(state.compared_at, job.full_verify_every, now):
        return proof.FULL
    return proof.QUICK if is_due(job, state, now) else proof.EQUAL


def is_due(job: PullConfig, state: State, now: datetime) -> bool:
    """Return whether a pulled replica is due for a quick check."""
    took = state.check_s
    if not isinstance(took, (int, float)) or took < _WORTH_SPARING_S:
        return True
    return has_passed(state.checked_at, job.check_every, now)


def is_ordinary(old: Path, new: Path) -> bool:
    """Return whether ordinary commits can have turned `old` into `new`, by their headers."""
    return _lasting(old) == _lasting(new)


def _lasting(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LASTING.stop)[_LASTING]


def recheck(job: PullConfig, replica: Replica, state: State, context: Context) -> tuple[State, str]:
    """Check a replica that was swapped in without a check; return its new state and its damage.

    The damage is "" if it is sound. Otherwise its state is no longer relied upon: the next pull
    compares every page, and shows whether the other side is damaged.
    """
    now = clock.to_text(context.clock.now(), context.clock.zone)
    try:
        found = proof.prove(
            replica.path,
            {"rows": state.tables, "uncounted": state.uncounted},
            context.check,
            integrity=proof.QUICK,
            hashes=(),
        )
    except (VerificationError, SourceCorruptError) as error:
        known = replace(state, fingerprint=None, checked_at="", spare=None)
        harm = _harm(job, state, error)
        context.log.warning("replica damaged", replica=str(replica.path), reason=harm)
    else:
        known = replace(state, checked_at=now, check_s=found.check_s, is_checked=True)
        harm = ""
    replica.note(known)
    return known, harm


def _harm(job: PullConfig, state: State, error: VerificationError | SourceCorruptError) -> str:
    problems = error.problems if isinstance(error, CopyDamagedError) else (error.message,)
    archive = shlex.quote(str(job.archive_folder))
    instead = f": gymdbd list --archive {archive} says which old one is verified"
    return (
        f"the replica {job.replica}, pulled at {state.pulled_at} and not checked then, is damaged "
        f"({'; '.join(problems[:3])}): do not use it{instead if job.backup_before else ''}"
    )

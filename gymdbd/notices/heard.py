"""Noting in the ledger the runs of other machines' jobs, as far as those machines told of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from gymdbd.runs import ledger
from gymdbd.runs.entry import instant
from gymdbd.runs.line import Line
from gymdbd.runs.status import StatusFile

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.config.config import Config
    from gymdbd.runs.entry import Entry
    from gymdbd.runs.overview import Overview

# A machine is asked once an hour; whoever tells of more runs shall not fill the ledger.
_APART = timedelta(minutes=50)
_CLOCKS_DIFFER = timedelta(minutes=10)
_LONGEST_AGO = timedelta(days=30)
# A machine that tells of other names each hour shall not push out what is known of ours.
_MOST_JOBS = 200


def write(settings: Config, seen: Overview) -> None:
    """Add a line for the last run of each job of other machines, if it is a new one."""
    told = [
        line for name, judged in seen.peers.items() if (line := _line(name, judged.entry, seen))
    ]
    if not told:
        return
    file = StatusFile(settings.status_file)
    newest: dict[str, datetime] = {}
    for line in ledger.read(file.ledger, seen.at - _LONGEST_AGO - _APART):
        newest[line.job] = max(line.began, newest.get(line.job, line.began))
    of_others = sum("/" in job for job in newest)
    unknown = [line for line in told if line.job not in newest]
    new = unknown[: max(0, _MOST_JOBS - of_others)]
    new += [line for line in told if line.began - newest.get(line.job, line.began) > _APART]
    if new:
        file.skipped(new)


def _line(name: str, entry: Entry, seen: Overview) -> Line | None:
    """Return the line of the last run that was told of, None if there is none of late."""
    began, success = instant(entry.last_run), instant(entry.last_success)
    if began is None or not -_CLOCKS_DIFFER <= seen.at - began <= _LONGEST_AGO:
        return None
    is_good = success is not None and success >= began
    moment = str(entry.last_run)
    code = None if is_good else entry.code
    return Line(job=name, state="ok" if is_good else "failed", first=moment, last=moment, code=code)

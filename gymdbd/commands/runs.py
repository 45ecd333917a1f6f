"""show every run of the last months, and the reason of each gap

A calendar of each job, a column for each week:

o  all runs of the day were good
~  not all: some failed, or were skipped
x  none was good
-  nothing ran, though a run was due
.  nothing was due
?  nothing is on record

Below it are curves of the size, the duration and the rows, with a letter for
each day, and the reason of each gap: the machine was off or asleep, its clock
was set, the daemon did not run, the other machine was away (peer away),
another run was at work (busy), a run was stopped, or failed with an error.

The jobs of another machine, such as raspberry-pi/nightly-backup, are shown as
far as that machine told of their runs when it was asked.

examples:
  gymdbd runs
      all jobs, 90 days
  gymdbd runs nightly-backup --days 400
      one job, all that is kept
  gymdbd runs --json
      every line of the record, for a program

files:
  ledger.jsonl   the record, beside the status file: a line for each run, kept
                 for 400 days
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gymdbd import files, words
from gymdbd.clock import Clock
from gymdbd.config.kinds import PullConfig
from gymdbd.errors import UsageError
from gymdbd.runs import calendar, ledger
from gymdbd.runs.line import SKIPPED
from gymdbd.runs.status import StatusFile
from gymdbd.terminal import configuration, curves, options

if TYPE_CHECKING:
    import argparse
    from datetime import date, tzinfo

    from gymdbd.config.config import Config
    from gymdbd.runs.calendar import Day
    from gymdbd.runs.line import Line
    from gymdbd.terminal.output import Output

_MOST_DAYS = 400
_MOST_GAPS = 12
_SIGNS = {
    calendar.GOOD: "o",
    calendar.MIXED: "~",
    calendar.BAD: "x",
    calendar.MISSED: "-",
    calendar.IDLE: ".",
    calendar.UNKNOWN: "?",
}
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "job",
        nargs="?",
        metavar="JOB",
        help="a job of the configuration, of another machine, or one that was removed"
        " (default: those of the configuration and of other machines)",
    )
    parser.add_argument(
        "--days", type=options.number, default=90, metavar="N", help="how many days (default: 90)"
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the runs."""
    if not 1 <= arguments.days <= _MOST_DAYS:
        raise UsageError(f"--days is to be from 1 to {_MOST_DAYS}")
    settings = configuration.load(arguments)
    now = Clock()
    at = now.now().astimezone(now.zone)
    first = at.date() - timedelta(days=arguments.days - 1)
    since = calendar.midnight(first, now.zone)
    path = StatusFile(settings.status_file).ledger
    lines, began = ledger.read(path, since), ledger.began(path)
    names = _names(settings, lines, arguments.job)
    shown = {
        name: [line for line in lines if line.job == name and line.ended >= since] for name in names
    }
    found = {
        name: calendar.days(_when(settings, name), mine, first, at, began)
        for name, mine in shown.items()
    }
    payload = {
        "from": first.isoformat(),
        "to": at.date().isoformat(),
        "jobs": {
            name: {
                "days": [_describe(day) for day in found[name]],
                "lines": [line.to_json() for line in mine],
            }
            for name, mine in shown.items()
        },
    }

    def show() -> None:
        for name, mine in shown.items():
            output.print_line(_title(settings, name, now.zone))
            if name not in settings.jobs or settings.jobs[name].is_scheduled:
                _print(found[name], mine, now.zone, output)
            output.print_line()

    output.result(payload, show)
    return 0


def _names(settings: Config, lines: list[Line], wanted: str | None) -> list[str]:
    """Return the jobs to show: one, or all of the configuration and those of other machines.

    One that was removed from the configuration is shown by its name.
    """
    hosts = {job.host for job in settings.jobs.values() if isinstance(job, PullConfig)}
    told = sorted({line.job for line in lines if line.job.rpartition("/")[0] in hosts})
    if wanted in {line.job for line in lines}:
        return [wanted]
    return [settings.job(wanted).name] if wanted else [*settings.jobs, *told]


def _when(settings: Config, name: str) -> Any:
    job = settings.jobs.get(name)
    return job.when if job and job.is_scheduled else None


def _describe(day: Day) -> dict[str, Any]:
    return {
        "day": day.day.isoformat(),
        "state": day.state,
        "runs": day.runs,
        "good": day.good,
        "skipped": day.skipped,
        "made_up": day.made_up,
        "reasons": [_reason(line) for line in day.troubles],
    }


def _reason(line: Line) -> str:
    """Say what happened, in a few words."""
    if line.state == SKIPPED:
        return f"skipped: {line.why}"
    if line.why:
        return line.why
    return f"{line.state}: {line.error or line.code or 'no reason on record'}"


def _title(settings: Config, name: str, zone: tzinfo) -> str:
    if when := _when(settings, name):
        return f"{name} ({when}, {zone})"
    if name in settings.jobs:
        return f"{name} (never runs: a watch)"
    told = "as that machine told, once an hour" if "/" in name else "no longer in the configuration"
    return f"{name} ({told})"


def _print(days: list[Day], mine: list[Line], zone: tzinfo, output: Output) -> None:
    for row in _weeks(days):
        output.print_line(f"  {row}".rstrip())
    output.print_line(f"  {_count(days)}")
    for what in calendar.CURVES:
        points = calendar.curve(what, mine, zone)
        if len(points) > 1:
            values = [point.value for point in points]
            span = f"{_shown(what, values[0])} to {_shown(what, values[-1])}"
            output.print_line(f"  {what:<9} {curves.drawn(values)}  {span}")
    gaps = list(calendar.gaps(days))
    for together in gaps[:_MOST_GAPS]:
        output.print_line(f"  {_dates(together)}  {_why(together)}")
    if len(gaps) > _MOST_GAPS:
        output.print_line(f"  and {len(gaps) - _MOST_GAPS} older gaps: see --json")


def _weeks(days: list[Day]) -> list[str]:
    """Return the rows of the calendar: the months above, and a row for each weekday."""
    first = days[0].day
    monday = first - timedelta(days=first.weekday())
    signs = {day.day: _SIGNS[day.state] for day in days}
    weeks = [
        monday + timedelta(weeks=number) for number in range((days[-1].day - monday).days // 7 + 1)
    ]
    rows = [
        f"{weekday}  " + " ".join(signs.get(week + timedelta(days=number), " ") for week in weeks)
        for number, weekday in enumerate(_WEEKDAYS)
    ]
    return [_months(weeks), *rows]


def _months(weeks: list[date]) -> str:
    """Return the names of the months, each above its first week that begins in it."""
    row = " " * 5
    for number, week in enumerate(weeks):
        place = 5 + 2 * number
        if week.day <= len(_WEEKDAYS) and len(row) <= place:
            row = row.ljust(place) + f"{week:%b} "
    return row


def _count(days: list[Day]) -> str:
    runs, good = (sum(getattr(day, what) for day in days) for what in ("runs", "good"))
    skipped = sum(day.skipped for day in days)
    return f"{words.counted(runs, 'run')}: {good:,} good, {runs - good:,} not; {skipped:,} skipped"


def _shown(what: str, value: float) -> str:
    if what == calendar.SIZE:
        return files.to_size(value)
    return f"{value:,.0f}" if what == calendar.ROWS else f"{value:.1f} s"


def _dates(together: list[Day]) -> str:
    first, last = together[0].day, together[-1].day
    return f"{first}" if first == last else f"{first} to {last}"


def _why(together: list[Day]) -> str:
    """Return the reasons of several days, each with how often it was."""
    counts: dict[str, int] = {}
    for day in together:
        for line in day.troubles:
            reason = _reason(line)
            counts[reason] = counts.get(reason, 0) + line.count
    told = [reason if count == 1 else f"{reason} ({count:,})" for reason, count in counts.items()]
    return "; ".join([*told, *(["made up"] if any(day.made_up for day in together) else [])])

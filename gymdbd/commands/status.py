"""report whether all is well, also as exit status

It reads the status file that every run updates, and checks what is there now:
the newest backup, the room for the next one, and the daemon. It also works
while the daemon is down. The exit status is that of the worst job, with the
meaning that monitoring plugins use.

If a daemon was started and is no longer running, every job is late, because its
next run will not happen. Jobs that cron or a person runs need no daemon.

Below the jobs are the disks, with the days until they are full, and what Linux
reports of power and cards.

examples:
  gymdbd status
      a table of the jobs, and what to do about failures
  gymdbd status --json
      the whole status, for a program
  gymdbd status --database instance/gym_system.db
      the backups of a database, without the jobs: the newest one, whether the
      database was written since, and the room. It needs no configuration; a
      job that makes these backups lends its max_age
  gymdbd status --archive data/backups/database
      the same for every database with backups in a folder
  gymdbd status --brief
      one line, for a prompt or a greeting (motd): what the status file says,
      what the daemon found when it last looked at the disks, and what other
      machines told. It opens no archive and no database, and waits 0.3 s for
      a file at most

files:
  status_file:   the status file that the configuration names, or the usual one:
                 ~/.local/state/gymdbd/status.json, or for a configuration in
                 /etc/gymdbd /var/lib/gymdbd/status.json; one that is named with
                 -c has it in a folder of its own in there

exit status:
  0  ok
  1  late: the newest backup of a job is older than its max_age, the daemon is
     not running, or the machine needs attention (min_free_days, power, a card)
  2  failing: the last run of a job failed, a backup of it is suspicious,
     damaged or gone, the next run will fail (no room, folder, database), or a
     disk has failed
  3  unknown: this user cannot read the status or an archive, or a job has not
     run yet
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import clock, words
from gymdbd.clock import Clock
from gymdbd.config import state
from gymdbd.errors import UsageError
from gymdbd.jobs.finding import Health
from gymdbd.notices import store
from gymdbd.runs import brief, overview, public
from gymdbd.runs.entry import Entry, instant
from gymdbd.runs.outcome import Recorded
from gymdbd.runs.status import StatusFile
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse
    from datetime import datetime, tzinfo

    from gymdbd.runs.entry import DaemonNote
    from gymdbd.runs.health import Daemon, Judged
    from gymdbd.runs.overview import Overview
    from gymdbd.terminal.output import Output

_UNKNOWN = 3
# A restart or an upgrade takes less.
_LONG_DOWN = timedelta(minutes=10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--brief", action="store_true", help="one line, without the disks")
    options.add_search(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the status; the exit code is that of the worst job."""
    now = Clock()
    if arguments.archive or arguments.source:
        return _of_named(arguments, now, output)
    if arguments.brief:
        return _brief(arguments, now, output)
    try:
        settings = configuration.load(arguments)
        seen = overview.take(settings, now)
    except GymdbdError as error:
        # To a monitor, an unreadable status must not look like a failing job.
        raise error.but(exit_code=_UNKNOWN) from error
    found, daemon, jobs = seen.status, seen.daemon, seen.jobs
    problem = _problem(StatusFile(settings.status_file))
    unreached = store.failures(settings.status_file)
    payload = {
        **found.to_json(),
        "jobs": {
            **{name: entry.to_json() for name, entry in found.jobs.items()},
            **{name: judged.to_json() for name, judged in jobs.items()},
        },
        "peers": {name: judged.to_json() for name, judged in seen.peers.items()},
        "remarks": {host: finding.to_json() for host, finding in seen.remarks.items()},
        "machine": {name: finding.to_json() for name, finding in seen.machine.items()},
        "notices": {name: failure.to_json() for name, failure in unreached.items()},
        "problem": problem,
        "daemon_running": daemon.alive,
        "daemon_is_mute": daemon.mute,
        "state": seen.health.name.lower(),
    }

    def show() -> None:
        _print(seen, _told(daemon, found.daemon), problem, now, output)
        for name, failure in unreached.items():
            output.print_line(
                f"notify {name}: not told since {clock.to_minute(failure.since, now.zone)}: "
                f"{failure.error}"
            )
            output.print_line(f"notify {name}: what to do: {failure.hint}")

    output.result(payload, show)
    return int(seen.health)


def _of_named(arguments: argparse.Namespace, now: Clock, output: Output) -> int:
    """Print how the backups are that the command line names."""
    from gymdbd.terminal import standings  # noqa: PLC0415 - the status of jobs needs none of it

    try:
        return standings.run(arguments, now, output)
    except UsageError:
        raise
    except GymdbdError as error:
        raise error.but(exit_code=_UNKNOWN) from error


def _brief(arguments: argparse.Namespace, now: Clock, output: Output) -> int:
    """Print one line, whatever happens: nobody looks for more in a prompt."""
    try:
        worst, line = brief.take(configuration.load(arguments, quietly=True), now)
    except GymdbdError as error:
        worst, line = Health.UNKNOWN, f"gymdbd: unknown: {error.message}"
    payload = {"state": worst.name.lower(), "line": line}
    output.result(payload, lambda: output.print_line(line))
    return int(worst)


def _problem(file: StatusFile) -> str | None:
    """Return why runs cannot record their outcome, None if they can."""
    try:
        state.require(file.path)
    except GymdbdError as error:
        return f"runs cannot record their outcome: {error.message}. What to do: {error.hint}"
    return None


def _told(daemon: Daemon, note: DaemonNote | None) -> str:
    """Say how the daemon is."""
    if daemon.alive and daemon.mute:
        return "daemon running, but it cannot write its status file"
    if daemon.alive:
        since = f", pid {note.pid}, since {note.started_at}" if note else ""
        return f"daemon running{since}{_down(daemon, note)}"
    if daemon.alive is None:
        return "daemon state unknown: this user cannot see it"
    return "daemon not running"


def _down(daemon: Daemon, note: DaemonNote | None) -> str:
    """Say for how long no daemon had run before this one, if that was long."""
    if note is None or daemon.started is None or daemon.down_since is None:
        return ""
    gap = daemon.started - daemon.down_since
    return f"; down before, from {note.down_since} on" if gap > _LONG_DOWN else ""


def _print(seen: Overview, daemon: str, problem: str | None, now: Clock, output: Output) -> None:
    jobs = {**seen.jobs, **seen.peers}
    output.print_line(daemon)
    if problem:
        output.print_line(problem)
    rows = [
        [
            name,
            judged.found.health.name.lower(),
            _last_good(judged.entry, now.now()),
            _next_run(judged.entry, now.zone),
            _running(judged) or judged.found.reason or _last(judged.entry),
        ]
        for name, judged in jobs.items()
    ]
    output.print_line()
    output.table(["job", "health", "last good", "next run", "details"], rows)
    hints: dict[str, list[str]] = {}
    for name, judged in jobs.items():
        result = judged.entry.result or Recorded({})
        for remark in result.remarks:
            output.print_line(f"{name}: {remark}")
        waits = words.waits(result.waiting) if result.waiting else ""
        if hint := judged.found.hint or waits:
            hints.setdefault(hint, []).append(name)
    for finding in seen.remarks.values():
        hint = f": {finding.hint}" if finding.hint else ""
        output.print_line(f"remark: {finding.reason}{hint}")
    for name, finding in seen.machine.items():
        state = "" if finding.health is Health.OK else f"{finding.health.name.lower()}: "
        output.print_line(f"{name}: {state}{finding.reason}")
        if finding.hint:
            hints.setdefault(finding.hint, []).append(name)
    for hint, names in hints.items():
        output.print_line(f"{', '.join(names)}: what to do: {hint}")


def _last_good(entry: Entry, now: datetime) -> str:
    """Return when the last run was good; another machine as such has no runs."""
    moment = instant(entry.last_success)
    if moment is None and entry.kind == public.MACHINE:
        return "-"
    return f"{words.age((now - moment).total_seconds())} ago" if moment else "never"


def _next_run(entry: Entry, zone: tzinfo) -> str:
    moment = instant(entry.next_run)
    return clock.to_minute(moment, zone) if moment else "-"


def _running(judged: Judged) -> str:
    if judged.interrupted:
        return f"the run started at {judged.interrupted.started_at} was killed; run it again"
    running = judged.entry.running
    return f"running since {running.started_at}" if running else ""


def _last(entry: Entry) -> str:
    if entry.result and entry.result.path:
        return Path(entry.result.path).name
    if entry.result and entry.result.verified:
        read, there = entry.result.verified
        return f"{read} of {there} backups read, all good"
    return str(entry.state)

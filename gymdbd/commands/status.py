"""report whether all is well, also as exit status

It reads the status file that every run updates, and checks what is there now:
the newest backup, the room for the next one, and the daemon. It also works
while the daemon is down. The exit status is that of the worst job, with the
meaning that monitoring plugins use.

If a daemon was started and is no longer running, every job is late, because its
next run will not happen. Jobs that cron or a person runs need no daemon.

examples:
  gymdbd status
      a table of the jobs, and what to do about failures
  gymdbd status --json
      the whole status, for a program

files:
  status_file:   the status file that the configuration names

exit status:
  0  ok
  1  late: the newest backup of a job is older than its max_age, or the daemon
     is not running
  2  failing: the last run of a job failed, a backup of it is suspicious,
     damaged or gone, or the next run will fail (no room, folder, database)
  3  unknown: this user cannot read the status or an archive, or a job has not
     run yet
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, words
from gymdbd.clock import Clock
from gymdbd.runs import health, status
from gymdbd.runs.status import instant
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse
    from datetime import datetime, tzinfo

    from gymdbd.config.config import Config
    from gymdbd.runs.status import Health, StatusFile
    from gymdbd.terminal.output import Output

_UNKNOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the status; the exit code is that of the worst job."""
    now = Clock()
    try:
        settings = configuration.load(arguments)
        content, daemon = health.read(settings)
    except GymdbdError as error:
        # To a monitor, an unreadable status must not look like a failing job.
        raise error.but(exit_code=_UNKNOWN) from error
    file = status.StatusFile(settings.status_file)
    content["problem"] = _problem(file)
    content["daemon_running"], content["daemon_is_mute"] = daemon.alive, daemon.mute
    healths, looks = {}, {}
    for name, job in settings.jobs.items():
        entry = content["jobs"].setdefault(name, {"kind": job.kind})
        looks[name] = health.begin(job, entry, file, now)
    for name, job in settings.jobs.items():
        entry = content["jobs"][name]
        found = health.judge(job, entry, looks[name], daemon, now)
        healths[name] = found.health
        entry.update(health=found.health.name.lower(), reason=found.reason, hint=found.hint or None)
        if daemon.alive is False or daemon.mute:
            entry["next_run"] = None
    overall = status.worst(list(healths.values()))
    payload = {**content, "state": overall.name.lower()}
    output.result(payload, lambda: _print(content, settings, healths, now, output))
    return int(overall)


def _problem(file: StatusFile) -> str | None:
    """Return why runs cannot record their outcome, None if they can."""
    try:
        files.require_folder(file.path.parent)
    except GymdbdError as error:
        return f"runs cannot record their outcome: {error.message}. What to do: {error.hint}"
    return None


def _print(
    content: dict[str, Any],
    settings: Config,
    healths: dict[str, Health],
    now: Clock,
    output: Output,
) -> None:
    daemon = content["daemon"] or {}
    if content["daemon_running"] and content["daemon_is_mute"]:
        output.print_line("daemon running, but it cannot write its status file")
    elif content["daemon_running"]:
        known = f", pid {daemon['pid']}, since {daemon['started_at']}" if daemon else ""
        output.print_line(f"daemon running{known}")
    elif content["daemon_running"] is None:
        output.print_line("daemon state unknown: this user cannot see it")
    else:
        output.print_line("daemon not running")
    if content["problem"]:
        output.print_line(content["problem"])
    rows = []
    for name in settings.jobs:
        entry = content["jobs"][name]
        rows.append(
            [
                name,
                healths[name].name.lower(),
                _age(entry, "last_success", now.now()),
                _next_run(entry, now.zone),
                _running(entry) or entry["reason"] or _last(entry),
            ]
        )
    output.print_line()
    output.table(["job", "health", "last good", "next run", "details"], rows)
    hints: dict[str, list[str]] = {}
    for name in settings.jobs:
        entry = content["jobs"][name]
        result = entry.get("result") or {}
        waiting = result.get("waiting")
        for remark in result.get("remarks") or []:
            output.print_line(f"{name}: {remark}")
        if hint := entry.get("hint") or (words.waits(waiting) if waiting else ""):
            hints.setdefault(hint, []).append(name)
    for hint, names in hints.items():
        output.print_line(f"{', '.join(names)}: what to do: {hint}")


def _age(entry: dict[str, Any], key: str, now: datetime) -> str:
    moment = instant(entry, key)
    return f"{words.age((now - moment).total_seconds())} ago" if moment else "never"


def _next_run(entry: dict[str, Any], zone: tzinfo) -> str:
    moment = instant(entry, "next_run")
    return clock.to_minute(moment, zone) if moment else "-"


def _running(entry: dict[str, Any]) -> str:
    if "interrupted" in entry:
        begun = entry["interrupted"]["started_at"]
        return f"the run started at {begun} was killed; run it again"
    return f"running since {entry['running']['started_at']}" if "running" in entry else ""


def _last(entry: dict[str, Any]) -> str:
    result = entry.get("result") or {}
    if result.get("path"):
        return Path(result["path"]).name
    if "in_archive" in result:
        return f"{len(result['backups'])} of {result['in_archive']} backups read, all good"
    return str(entry.get("state"))

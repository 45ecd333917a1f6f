"""restore a backup, into the live database or another file

Before anything is changed, the whole backup is verified and the current content
of the target is saved in the archive: gymdbd undo takes the restore back, and
the output says how. The application can keep running: it sees the old state
until the restore commits, and the restored state afterwards. Only --replace,
which puts a new file in place of the target, requires that every process has
closed it.

BACKUP is the name of a backup in an archive, a beginning of the time in that
name that no other has (20261128, "2026-11-28 03"), a path, or `latest`. A
backup that is suspicious, rejected or unverified, or that was saved by an
earlier restore, must be given by one of these; `latest` and --at choose only
good ones. A damaged backup is refused.

TIME is a time of day, the last one that has passed (14:00); a day, of which it
is the end (yesterday, tuesday); a time on a day ("yesterday 14:00",
"Tue 14:00"); an age (3d, 2h, 30m); or a date, of which it is the beginning,
with or without a time (2026-11-20, "2026-11-20 14:00"), to which an offset can
be added (2026-11-20T14:00+09:00). The answer says how long before that time the
backup was made.

examples:
  gymdbd restore latest --dry-run
      show what would be restored, and what would be lost
  gymdbd restore latest
      the newest good backup, into its database
  gymdbd restore --at yesterday
      the newest good backup of yesterday, or else of before
  gymdbd restore --at "2026-11-20 14:00"
      the newest good backup made at or before that time
  gymdbd restore "2026-11-23 03" --to /tmp/look.db
      the only backup of that hour, into another file
  gymdbd restore latest --replace
      if the file is so damaged that SQLite cannot open it
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, log, words
from gymdbd.config.config import LogConfig
from gymdbd.config.kinds import RestoreConfig
from gymdbd.errors import ConfigError, FolderMissingError
from gymdbd.jobs import elsewhere
from gymdbd.jobs.context import Context
from gymdbd.jobs.restore import preview
from gymdbd.jobs.restore.result import RestoreResult
from gymdbd.runs import answering
from gymdbd.terminal import by_hand, configuration, databases, naming, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.archive.backup import Backup
    from gymdbd.config.config import Config
    from gymdbd.jobs.restore.result import Overwrote, Plan, Rows
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    naming.add_words(parser)
    naming.add_at(parser)
    options.add_search(parser)
    parser.add_argument(
        "--to",
        type=Path,
        metavar="PATH",
        help="the file to restore into (default: the database that the backup was made of)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="put a new file in place of the target"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="change nothing, print what would be restored and lost",
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Restore, or print what a restore would do."""
    return perform(*_job(arguments, output), arguments, output)


def perform(
    job: RestoreConfig, settings: Config | None, arguments: argparse.Namespace, output: Output
) -> int:
    """Run a restore, or print what it would do; return the exit code."""
    if arguments.dry_run:
        return _plan(job, output)
    outcome = by_hand.run_job(job, settings, output).outcome
    result = outcome.result
    if not isinstance(result, RestoreResult):
        by_hand.report_failure(outcome, output)
        return outcome.exit_code
    rejected = answering.reject_restored(settings, job, output.remark) if settings else []
    told = dataclasses.replace(result, rejected=[*result.rejected, *rejected])
    output.result(told.to_json(), lambda: _print(told, job, output))
    return outcome.exit_code


def _job(arguments: argparse.Namespace, output: Output) -> tuple[RestoreConfig, Config | None]:
    backup = naming.find_backup(arguments, output)
    return job_for(backup, databases.restore_target(backup, arguments), arguments)


def job_for(
    backup: Backup, target: Path, arguments: argparse.Namespace, *, is_undo: bool = False
) -> tuple[RestoreConfig, Config | None]:
    """Return the restore of `backup` into `target`, and the configuration if there is one."""
    # Links of another user's are that user's process to follow.
    across = elsewhere.of(target) is not None
    real = target if across else Path(os.path.realpath(target))
    if not across and not real.parent.is_dir():
        raise FolderMissingError(
            f"there is no folder {real.parent} to restore into", hint="create it, or mount its disk"
        )
    job = RestoreConfig(
        name="undo" if is_undo else "restore",
        kind="restore",
        backup=Path(os.path.realpath(backup.path)),
        target=real,
        replace=arguments.replace,
        source=databases.origin_of(backup, real, arguments),
        across=across,
        is_undo=is_undo,
    )
    try:
        return job, configuration.load(arguments)
    except ConfigError:
        if arguments.config is not None:
            raise
        return job, None


def _print(result: RestoreResult, job: RestoreConfig, output: Output) -> None:
    timings = ", ".join(f"{name} {seconds:.3f}" for name, seconds in result.timings.items())
    proof = "integrity ok, counts equal"
    if result.written_since:
        proof = f"the application has written to {', '.join(result.written_since)} since"
    facts = [
        ("restored", result.target),
        ("from", result.backup),
        ("how", result.how),
        ("content", f"{words.rows_in(result.tables)}; {proof}"),
        ("saved", f"the previous content, as {result.undo}" if result.undo else "nothing"),
        *_before(result.overwrote, job),
        *(("remark", remark) for remark in result.remarks),
        *[("rejected", f"{path}, which was suspicious") for path in result.rejected],
        ("took", f"{result.duration_s:.3f} s ({timings})"),
    ]
    if result.restart:
        who = ", ".join(result.restart)
        facts.append(("restart", f"{who}: until then, it keeps using the file that was removed"))
    output.facts(facts)
    command = result.undo_command
    if command:
        live = command.startswith("gymdbd ") and not command.endswith(" --replace")
        if command.startswith("gymdbd "):
            flags = [] if live else ["--replace"]
            command = shlex.join(["gymdbd", "undo", "--database", result.target, *flags])
        output.print_line()
        output.print_line("To undo it:" if live else "To undo it, with the application stopped:")
        output.print_line(f"  {command}")


def _before(overwrote: Overwrote | None, job: RestoreConfig) -> list[tuple[str, str]]:
    """Return the facts about the restore that is taken back, or overwritten."""
    if overwrote is None:
        return []
    since = overwrote.rows_since
    changed = [f"{name}: {_more(count)}" for name, count in (since or {}).items()]
    told = ", ".join(changed) or ("the same numbers of rows" if since == {} else "unknown")
    return [("undoes" if job.is_undo else "over", overwrote.restore), ("since then", told)]


def _plan(job: RestoreConfig, output: Output) -> int:
    log.configure(LogConfig(), by_hand=True)
    with by_hand.stoppable() as check:
        plan = preview.plan(job, Context(log=log.logger(), check=check))
    refused = plan.refused
    payload = {"state": plan.state, "dry_run": True, **plan.to_json()}
    if refused:
        payload |= {"error": refused.message, "hint": refused.hint, "code": refused.code}
    output.result(payload, lambda: _print_plan(plan, job, output))
    return refused.exit_code if refused else int(plan.state != "ok")


def _print_plan(plan: Plan, job: RestoreConfig, output: Output) -> None:
    problems = f": {'; '.join(plan.problems[:3])}" if plan.problems else ""
    space = f"{files.to_size(plan.free_bytes)} free, {files.to_size(plan.needed_bytes)} needed"
    output.facts(
        [
            ("backup", plan.backup),
            ("made", f"{plan.created_at}, {words.age(plan.age_s)} ago"),
            ("verdict", f"{plan.verdict}{problems}"),
            *_before(plan.overwrote, job),
            ("target", plan.target + (f" ({plan.problem})" if plan.problem else "")),
            ("open in", ", ".join(plan.holders) or "no process that this user can see"),
            ("space", space),
        ]
    )
    output.print_line()
    rows = [
        [name, _rows(counts.now), _rows(counts.then), _change(counts)]
        for name, counts in plan.tables.items()
    ]
    output.table(["table", "now", "in the backup", "change"], rows)
    output.print_line("Nothing has been changed.")
    if plan.refused:
        output.print_line(f"The restore would be refused: {plan.refused.message}")
        output.print_line(f"What to do: {plan.refused.hint}")


def _rows(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _change(counts: Rows) -> str:
    now, then = counts.now, counts.then
    if now is None:
        return "table comes back"
    if then is None:
        return "table is dropped"
    if now == then:
        return "same number of rows"
    return _more(then - now)


def _more(rows: int) -> str:
    return f"{words.counted(abs(rows), 'row')} {'more' if rows > 0 else 'fewer'}"

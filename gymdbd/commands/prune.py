"""remove the backups that the retention rule does not retain

The newest verified backup and pinned backups are never removed. Nothing is
removed while the source is damaged, a backup is suspicious or the clock looks
wrong. Files that are not backups are never touched. --dry-run removes nothing
and prints for every backup whether it would be removed, and why.

The rule retains backups younger than --keep-days, also the newest --keep-count,
and the newest one of each of the last --keep-daily days, --keep-weekly weeks,
... that have backups. Without any of these flags, the rule is the job's keep:
section. Hours, days and weeks are those of this machine's time zone.

examples:
  gymdbd prune nightly-backup --dry-run
      what the rule of the configuration would remove
  gymdbd prune --archive data/backups/database --keep-days 14 --keep-count 10
      without a configuration
  gymdbd prune nightly-backup --keep-daily 7 --keep-weekly 4 --keep-monthly 12
      one a day for a week, one a week for a month, one a month for a year
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import lock, log
from gymdbd.archive import belonging
from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import BackupConfig
from gymdbd.config.parts import Keep
from gymdbd.errors import UsageError
from gymdbd.jobs import prune
from gymdbd.jobs.context import Context
from gymdbd.terminal import by_hand, configuration, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.archive.retention import Decision
    from gymdbd.origin import Origin
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    options.add_job(parser, "backup")
    parser.add_argument(
        "--archive", type=Path, metavar="DIR", help="use this archive instead of a job's"
    )
    options.add_retention(parser)
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, print the plan")
    options.add_json(parser)


@by_hand.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Prune, or print what would be pruned."""
    archive, origins, keep = _what(arguments)
    configuration.act(arguments, [archive])
    context = Context(log=log.logger())
    catalog = Catalog(archive, context.clock.zone)
    origins = origins or belonging.origins(catalog.backups())
    if arguments.dry_run:
        decisions = [
            decision
            for origin in origins
            for decision in prune.decide(catalog, origin, keep, context)
        ]
    else:
        with lock.hold([lock.archive_lock(archive)]):
            for path in catalog.sweep():
                context.log.warning("leftover of an interrupted run removed", path=str(path))
            decisions = [
                decision
                for origin in origins
                for decision in prune.prune(catalog, origin, keep, context)
            ]
    _print(_once(decisions), output, dry_run=arguments.dry_run)
    return 0


def _once(decisions: list[Decision]) -> list[Decision]:
    """Drop duplicates: a file without a manifest is listed among the backups of every database."""
    found: dict[Path, Decision] = {}
    for decision in sorted(decisions, key=lambda decision: decision.stays):
        found.setdefault(decision.backup.path, decision)
    return [decision for decision in decisions if found[decision.backup.path] is decision]


def _what(arguments: argparse.Namespace) -> tuple[Path, list[Origin], Keep]:
    """Return the archive, its databases (empty for all of them) and the retention rule."""
    origins: list[Origin] = []
    flags = Keep(**options.retention(arguments))
    if arguments.archive:
        if arguments.job:
            raise UsageError("name either a JOB or --archive DIR, not both")
        archive, keep = arguments.archive, flags
    else:
        job = configuration.choose_job(configuration.load(arguments), arguments.job, BackupConfig)
        archive, origins = job.archive, [job.origin]
        keep = job.keep if flags.faults() and job.keep else flags
    if keep.faults():
        raise UsageError(
            "there is no retention rule",
            hint="add --keep-days N, --keep-count N, --keep-daily N or another of them, or a keep: "
            "section to the job",
        )
    return archive, origins, keep


def _print(decisions: list[Decision], output: Output, *, dry_run: bool) -> None:
    described = [
        {"path": str(decision.backup.path), "stays": decision.stays, "reason": decision.reason}
        for decision in decisions
    ]
    gone = [str(decision.backup.path) for decision in decisions if not decision.stays]
    verb = "would be removed" if dry_run else "removed"

    def text() -> None:
        for decision in decisions:
            word = "stays" if decision.stays else verb
            output.print_line(f"{word:<{len(verb)}}  {decision.backup.path}  ({decision.reason})")
        output.print_line(f"{len(gone)} of {len(decisions)} backups {verb}")

    output.result({"dry_run": dry_run, "pruned": gone, "backups": described}, text)

"""read backups again and check that they are still good

Every byte is read: md5 and sha256 are computed and compared with the manifest,
SQLite checks integrity and foreign keys, and the rows of every table are
counted. There must be no file beside the backup that SQLite would apply to it.
Neither the backup nor its folder is changed; the verdict is stored in the file
.marks.json beside it, which gymdbd list and pruning read. The exit status is 1
if at least one backup is damaged.

--repair needs a verify job with repair_from: in the configuration. A backup
with the same SHA-256 is fetched over SSH from that machine, verified, and put
in place of the damaged one.

examples:
  gymdbd verify
      the newest backup of each database, and every backup marked damaged
  gymdbd verify --all
      every backup of every archive in the configuration
  gymdbd verify --sample 10%
      a tenth of the backups: those verified longest ago
  gymdbd verify 20261123_03
      a backup, by its name, a beginning of its time, or its path
  gymdbd verify --database instance/gym_system.db
      the newest backup of one database, with or without a configuration
  gymdbd verify --all --repair
      fetch good copies of the damaged backups
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, words
from gymdbd.archive import belonging
from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import VerifyConfig
from gymdbd.errors import BackupMissingError, StoppedError, UsageError
from gymdbd.jobs.result import Result
from gymdbd.jobs.verify.result import VerifyResult
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import by_hand, configuration, databases, naming, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.jobs.verify.result import Verdict
    from gymdbd.runs.outcome import Ended
    from gymdbd.terminal.distance import Distance
    from gymdbd.terminal.naming import Name
    from gymdbd.terminal.output import Output


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found(Result):
    """What was found in all archives."""

    backups: list[Verdict]
    bytes_read: int
    duration_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    naming.add_words(parser, nargs="*")
    naming.add_at(parser)
    options.add_search(parser)
    parser.add_argument("--all", action="store_true", help="read every backup")
    parser.add_argument(
        "--sample",
        type=options.percent,
        metavar="N%",
        help="read this share of the backups, those verified longest ago",
    )
    parser.add_argument(
        "--repair", action="store_true", help="replace damaged backups by copies (repair_from:)"
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Verify the backups and print the verdicts."""
    names = naming.named(arguments)
    if (names != []) + arguments.all + (arguments.sample is not None) > 1:
        raise UsageError("use only one of BACKUP names or --at, --all and --sample")
    settings = _settings(arguments)
    distances: dict[str, Distance] = {}
    jobs = _jobs(arguments, settings, distances)
    runs: list[Ended] = []
    for job in jobs:
        # Verifying a named backup does not count as a run of the job.
        of_config = settings is not None and job.name in settings.jobs
        recorded = settings if of_config and not names else None
        runs.append(by_hand.run_job(job, recorded, output))
        if runs[-1].outcome.code == StoppedError.code:
            break
    exit_code = max((run.outcome.exit_code for run in runs), default=0)
    _print(runs, distances, exit_code, output)
    return exit_code


def _settings(arguments: argparse.Namespace) -> Config | None:
    """Load the configuration, unless the command line is sufficient without it."""
    names = naming.named(arguments)
    paths_only = names and all(map(_is_path, names))
    if (arguments.archive or paths_only) and not arguments.repair and not arguments.config:
        return None
    return configuration.loaded(arguments)


def _jobs(
    arguments: argparse.Namespace, settings: Config | None, distances: dict[str, Distance]
) -> list[VerifyConfig]:
    """Return one job for each archive in which backups are to be read."""
    jobs = []
    for archive, names in _wanted(arguments, settings, distances).items():
        job = _job_of(archive, settings)
        repair_from = job.repair_from if arguments.repair else None
        jobs.append(
            dataclasses.replace(
                job, only=tuple(names), sample=arguments.sample, repair_from=repair_from
            )
        )
    if arguments.repair and not any(job.repair_from for job in jobs):
        _refuse_repair([job.archive for job in jobs])
    return jobs


def _wanted(
    arguments: argparse.Namespace, settings: Config | None, distances: dict[str, Distance]
) -> dict[Path, list[str]]:
    """Return the archives and the names to read in each; an empty list leaves it to the job.

    How far each is from the time by which it was chosen goes into `distances`.
    """
    if arguments.sample is not None or (arguments.all and not arguments.source):
        return {archive: [] for archive in _archives(arguments, settings)}
    names = naming.named(arguments)
    if not names:
        return _usual(_archives(arguments, settings), arguments)
    wanted: dict[Path, list[str]] = {}
    for named in names:
        if _is_path(named):
            path = files.absolute(named.text)
        else:
            found = naming.find(named, arguments)
            path = found.path
            if found.distance:
                distances[str(path)] = found.distance
        wanted.setdefault(path.parent, []).append(path.name)
    return wanted


def _usual(archives: list[Path], arguments: argparse.Namespace) -> dict[Path, list[str]]:
    """Return the newest backup of each database, and every backup marked damaged.

    With --all, return every backup of the database that is named. For an unreadable archive the
    list is empty: its own run reports the error.
    """
    wanted: dict[Path, list[str]] = {}
    for archive in archives:
        try:
            every = Catalog(archive, Clock().zone).backups()
        except GymdbdError:
            wanted[archive] = []
            continue
        backups = configuration.of_named(every, arguments)
        newest = [belonging.of(backups, origin)[0] for origin in belonging.origins(backups)]
        chosen = [
            backup.path.name
            for backup in backups
            if arguments.all or backup in newest or backup.verdict == DAMAGED
        ]
        if chosen or not arguments.source:
            wanted[archive] = chosen
    if not wanted:
        raise BackupMissingError(
            f"there are no backups of {arguments.source} in {' or '.join(map(str, archives))}",
            hint="gymdbd list prints all backups; gymdbd backup makes one",
        )
    return wanted


def _is_path(name: Name) -> bool:
    return not name.is_time and databases.is_path(name.text)


def _archives(arguments: argparse.Namespace, settings: Config | None) -> list[Path]:
    if arguments.archive:
        return [files.absolute(arguments.archive)]
    return configuration.archives_of(settings) if settings else configuration.archives(arguments)


def _job_of(archive: Path, settings: Config | None) -> VerifyConfig:
    """Return the configured job that verifies an archive, or a default job for it."""
    for job in settings.jobs.values() if settings else ():
        if isinstance(job, VerifyConfig) and job.archive.resolve() == archive.resolve():
            return job
    return VerifyConfig(name="verify", kind="verify", archive=archive, timeout=timedelta(days=7))


def _refuse_repair(archives: list[Path]) -> None:
    raise UsageError(
        "the configuration does not name a machine with copies of the backups in "
        f"{' or '.join(map(str, archives))}",
        hint="add a job of kind: verify for that archive, with "
        "repair_from: {host: HOST, archive: PATH on that host}",
    )


def _print(
    runs: list[Ended], distances: dict[str, Distance], exit_code: int, output: Output
) -> None:
    """Print all verdicts and failures; with --json only the failure that sets the exit code."""
    zone = Clock().zone
    results = [
        ended.outcome.result for ended in runs if isinstance(ended.outcome.result, VerifyResult)
    ]
    found = _Found(
        backups=[backup for result in results for backup in result.backups],
        bytes_read=sum(result.bytes_read for result in results),
        duration_s=round(sum(ended.duration_s for ended in runs), 3),
    )
    told = found.to_json()
    for backup in told["backups"]:
        if distance := distances.get(backup["path"]):
            backup.update(distance.describe(zone))
    far = {path: distance.shown(zone) for path, distance in distances.items()}
    failed = sorted(
        (ended.outcome for ended in runs if ended.outcome.exit_code),
        key=lambda outcome: outcome.exit_code != exit_code,
    )
    if not failed:
        output.result(told, lambda: _print_backups(found, far, output))
        return
    if not output.json:
        _print_backups(found, far, output)
    for outcome in failed[:1] if output.json else failed:
        output.failure({**outcome.problem(), **told})


def _print_backups(found: _Found, far: dict[str, str], output: Output) -> None:
    rows: dict[Path, list[list[str]]] = {}
    for backup in found.backups:
        repaired = [f"repaired from {backup.repaired}"] if backup.repaired else []
        asked = [far[backup.path]] if backup.path in far else []
        details = "; ".join([*asked, *repaired, *backup.problems, *backup.remarks])
        path = Path(backup.path)
        rows.setdefault(path.parent, []).append([path.name, backup.verdict, details])
    for archive, of_archive in rows.items():
        output.print_line(str(archive))
        output.table(["backup", "verdict", "details"], of_archive)
        output.print_line()
    if rows:
        count = words.counted(len(found.backups), "backup")
        output.print_line(
            f"{count} and {files.to_size(found.bytes_read)} read in {found.duration_s:.3f} s"
        )

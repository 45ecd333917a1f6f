"""read backups again and say whether they are still good

  gymdbd verify                            the newest backup of each database, and every one that
                                           is marked damaged
  gymdbd verify --all                      every backup of every archive in the configuration
  gymdbd verify --sample 10%               a tenth: those that were proven longest ago
  gymdbd verify gym_system_backup_20261123_030000.db
                                           one, by its name or its path
  gymdbd verify --all --repair             fetch good copies of the damaged ones

Every byte is read: md5 and sha256 are computed anew and compared with the manifest, SQLite checks
integrity and foreign keys, the rows of every table are counted, and nothing that SQLite would
roll into it may lie beside the file. Neither a backup nor its folder is changed; the verdict is
stored in marks beside it (.marks.json), where gymdbd list shows it and pruning minds it. Exit
status 1 says that at least one is damaged.

--repair needs a verify job with repair_from: in the configuration. Its machine is reached over
SSH, and a backup there with the same SHA-256 is fetched, proven, and put in place of the damaged
one.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd.commands import common

if TYPE_CHECKING:
    from gymdbd.config import Config
    from gymdbd.job_config import VerifyConfig
    from gymdbd.output import Output

NAME = "verify"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "backups", nargs="*", metavar="BACKUP", help="a backup's name or path (or latest)"
    )
    parser.add_argument(
        "--archive", type=Path, metavar="DIR", help="default: every archive of the configuration"
    )
    parser.add_argument("--all", action="store_true", help="read every backup")
    parser.add_argument(
        "--sample",
        type=_percent,
        metavar="N%",
        help="read this share of the backups, those proven longest ago first",
    )
    parser.add_argument(
        "--repair", action="store_true", help="fetch good copies of damaged ones (repair_from:)"
    )
    common.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Verify, and tell what came of it."""
    from gymdbd.errors import UsageError

    if (arguments.backups != []) + arguments.all + (arguments.sample is not None) > 1:
        raise UsageError("name backups, or say --all or --sample: only one of them")
    settings = _settings(arguments)
    jobs = _jobs(arguments, settings)
    entries, exit_code = [], 0
    for job in jobs:
        # What somebody looked at by its name is no run of the job.
        of_config = settings is not None and job.name in settings.jobs
        recorded = settings if of_config and not arguments.backups else None
        entry, code = common.run_by_hand(job, recorded, output)
        entries.append(entry)
        exit_code = max(exit_code, code)
    _tell(entries, exit_code, output)
    return exit_code


def _percent(text: str) -> int:
    from gymdbd import values

    try:
        return values.percent(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _settings(arguments: argparse.Namespace) -> Config | None:
    """Load the configuration, unless the command line says everything that is needed."""
    paths_only = arguments.backups and all(os.sep in one for one in arguments.backups)
    if (arguments.archive or paths_only) and not arguments.repair and not arguments.config:
        return None
    return common.load_config(arguments)


def _jobs(arguments: argparse.Namespace, settings: Config | None) -> list[VerifyConfig]:
    """Return one job for each archive that something is to be read in."""
    jobs = []
    for archive, names in _wanted(arguments, settings).items():
        job = _job_of(archive, settings)
        if arguments.repair and job.repair_from is None:
            _refuse_repair(archive)
        repair_from = job.repair_from if arguments.repair else None
        jobs.append(
            dataclasses.replace(
                job, only=tuple(names), sample=arguments.sample, repair_from=repair_from
            )
        )
    return jobs


def _wanted(arguments: argparse.Namespace, settings: Config | None) -> dict[Path, list[str]]:
    """Return the archives, each with the names to read in it; none leaves it to the job."""
    if arguments.all or arguments.sample is not None:
        return {archive: [] for archive in _archives(arguments, settings)}
    if not arguments.backups:
        return {archive: _usual(archive) for archive in _archives(arguments, settings)}
    wanted: dict[Path, list[str]] = {}
    for text in arguments.backups:
        archive, name = _locate(text, arguments, settings)
        wanted.setdefault(archive, []).append(name)
    return wanted


def _usual(archive: Path) -> list[str]:
    """Name the newest backup of each database, and whatever is marked damaged."""
    from gymdbd.archive.catalog import DAMAGED, Catalog
    from gymdbd.clock import Clock

    backups = Catalog(archive, Clock().zone).backups()
    newest = {one.stem: one for one in reversed(backups)}
    chosen = [one for one in backups if one in newest.values() or one.verdict == DAMAGED]
    return [one.path.name for one in chosen]


def _locate(text: str, arguments: argparse.Namespace, settings: Config | None) -> tuple[Path, str]:
    from gymdbd.archive.catalog import Catalog
    from gymdbd.clock import Clock
    from gymdbd.errors import BackupMissingError

    if os.sep in text:
        path = Path(os.path.abspath(text))  # noqa: PTH100 - links stay
        return path.parent, path.name
    zone = Clock().zone
    missing = BackupMissingError("there is no archive to look in")
    for archive in _archives(arguments, settings):
        try:
            return archive, Catalog(archive, zone).find(text).path.name
        except BackupMissingError as error:
            missing = error
    raise missing


def _archives(arguments: argparse.Namespace, settings: Config | None) -> list[Path]:
    if arguments.archive or settings is None:
        return [Path(os.path.abspath(arguments.archive))]  # noqa: PTH100 - links stay
    return common.archives_of(settings)


def _job_of(archive: Path, settings: Config | None) -> VerifyConfig:
    """Return the job of the configuration that verifies an archive, or one made up for it."""
    from datetime import timedelta

    from gymdbd.job_config import VerifyConfig

    for job in settings.jobs.values() if settings else ():
        if isinstance(job, VerifyConfig) and job.archive.resolve() == archive.resolve():
            return job
    return VerifyConfig(name="verify", kind="verify", archive=archive, timeout=timedelta(days=7))


def _refuse_repair(archive: Path) -> None:
    from gymdbd.errors import UsageError

    raise UsageError(
        f"nothing says which other machine holds copies of the backups in {archive}",
        hint="give the configuration a job of kind: verify for this archive, with "
        "repair_from: {host: HOST, archive: PATH over there}",
    )


def _tell(entries: list[dict[str, Any]], exit_code: int, output: Output) -> None:
    """Print every verdict, and the first failure if there is one."""
    results = [entry["result"] for entry in entries if entry["result"]]
    payload: dict[str, Any] = {
        "backups": [backup for result in results for backup in result["backups"]],
        "bytes_read": sum(result["bytes_read"] for result in results),
        "duration_s": round(sum(entry["duration_s"] for entry in entries), 3),
    }
    if not output.json:
        _tell_backups(payload, output)
    failed = [entry for entry in entries if entry["exit_code"]]
    if failed:
        worst = next(entry for entry in failed if entry["exit_code"] == exit_code)
        told = {name: worst[name] for name in ("state", "error", "hint", "code")}
        output.failure({**told, **payload})
    else:
        output.result(payload, lambda: None)


def _tell_backups(payload: dict[str, Any], output: Output) -> None:
    from gymdbd.files import to_size

    rows = []
    for one in payload["backups"]:
        repaired = [f"repaired from {one['repaired']}"] if one["repaired"] else []
        rows.append(
            [
                one["path"],
                one["verdict"],
                "; ".join([*repaired, *one["problems"], *one["remarks"]]),
            ]
        )
    if rows:
        output.table(["backup", "verdict", "what"], rows)
        count = f"{len(rows)} backup{'s' if len(rows) > 1 else ''}"
        output.say()
        output.say(
            f"{count} and {to_size(payload['bytes_read'])} read in {payload['duration_s']:.3f} s"
        )

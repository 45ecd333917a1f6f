"""The first steps with a database of this machine: find it, write a configuration, back it up."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import acting, files, groups
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config import template
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import UsageError
from gymdbd.jobs.backup.result import BackupResult
from gymdbd.jobs.pull.replica import Replica
from gymdbd.runs import as_owner
from gymdbd.runs.outcome import Outcome
from gymdbd.source import database, nearby
from gymdbd.source.errors import SourceNotADatabaseError, SourceNotAFileError
from gymdbd.terminal import asking, by_hand, configuration, first
from gymdbd.words import rows_in

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.source.nearby import Found
    from gymdbd.terminal.first import Steps

# As `gymdbd backup --database` has it, in the folder of the application.
_ARCHIVE = Path("data/backups/database")
# What applications call the folder of their database.
_OF_DATA = ("instance", "data", "db", "database", "var")
_NAME = "nightly-backup"
_NAME_IT = "name the database: gymdbd init --database PATH"
_SHOWN = 20
_GIT_S = 10
_MOST_BYTES = 65536


def run(arguments: argparse.Namespace, steps: Steps) -> int:
    """Do what is still to be done of them; return the exit code."""
    at = first.place(arguments)
    settings = first.existing(at, arguments, steps)
    jobs = _jobs(settings, arguments.database) if settings else []
    if jobs and settings:
        steps.tell("kept", f"{at}, which backs up {', '.join(str(job.database) for job in jobs)}")
        _require_same_archive(jobs, arguments)
    else:
        settings = _configure(at, settings, arguments, steps)
        jobs = _jobs(settings, None) if settings else []
    if settings is None or arguments.dry_run:
        steps.finish()
        return 0
    return _begin(settings, jobs, steps)


def _jobs(settings: Config, path: Path | None) -> list[BackupConfig]:
    jobs = [job for job in settings.jobs.values() if isinstance(job, BackupConfig)]
    if path is None:
        return jobs
    wanted = os.path.realpath(path)
    return [job for job in jobs if os.path.realpath(job.database) == wanted]


def _require_same_archive(jobs: list[BackupConfig], arguments: argparse.Namespace) -> None:
    given = arguments.archive and files.absolute(arguments.archive)
    if given and given not in [job.archive for job in jobs]:
        raise UsageError(
            f"{arguments.config} backs it up into {jobs[0].archive}, not {given}",
            hint="init changes nothing that exists: edit the configuration, then gymdbd check",
        )


def _configure(
    at: Path, settings: Config | None, arguments: argparse.Namespace, steps: Steps
) -> Config | None:
    """Find the database, and write a configuration that backs it up."""
    path = _database(arguments, steps)
    archive = _archive(path, arguments, steps)
    job: dict[str, Any] = {
        "kind": "backup",
        "schedule": "0 3 * * *",
        "database": path,
        "archive": archive,
        "keep": {"days": 14, "count": 10},
    }
    if settings is not None:
        raise first.refuse_to_change(settings, _NAME, job)
    steps.facts |= {"database": str(path), "archive": str(archive)}
    steps.tell("database", str(path))
    steps.tell("archive", str(archive))
    return first.write(at, template.backup(_NAME, job), [archive], arguments, steps)


def _database(arguments: argparse.Namespace, steps: Steps) -> Path:
    """Return the database that is named, or chosen among those that are found."""
    if arguments.database:
        path = files.absolute(arguments.database)
        require_database(path)
        return path
    found = [one for one in _found() if Replica(Path(one.path)).state() is None]
    if asking.is_possible(steps.output) and found:
        chosen = found[asking.choose("Which database?", [_described(one) for one in found])]
        return files.absolute(chosen.path)
    # What is somewhere else may be any program's.
    here = [one for one in found if one.near]
    if len(here) == 1:
        return files.absolute(here[0].path)
    if not here:
        open_elsewhere = f"; programs have others open: {_listed(found)}" if found else ""
        raise UsageError(
            f"there is no SQLite database in {Path.cwd()}, or some levels below it{open_elsewhere}",
            hint=f"{_NAME_IT}, or type it in the folder of the application",
        )
    raise UsageError(
        f"it is not certain which database is meant, of {len(here)}: {_listed(here)}",
        hint=_NAME_IT,
    )


def _found() -> list[Found]:
    """Look below the current folder, as its owner, and at what processes have open."""
    here = Path.cwd()
    paths = acting.done_by_decider(here, lambda: nearby.near(str(here)))
    return nearby.with_users(paths)


def _listed(found: list[Found]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(one.path for one in found[:_SHOWN]) + more


def _described(found: Found) -> str:
    users = f", open in {', '.join(found.users)}" if found.users else ""
    path = os.path.relpath(found.path) if found.near else found.path
    return f"{path}  ({files.to_size(found.size_bytes)}{users})"


def require_database(path: Path) -> None:
    """Raise a SourceError unless there is an SQLite database at a path that somebody has named."""
    with acting.reading_as_owner(path):
        try:
            real = database.locate(path)
        except SourceNotAFileError as error:
            if not path.is_dir():
                raise
            raise error.but(hint=_hint_for(path)) from error
        if not nearby.is_database(str(real)):
            raise SourceNotADatabaseError(
                f"{path} is not an SQLite database",
                hint="name the database file of the application; an encrypted database, and one of "
                "another system (PostgreSQL, MySQL), needs its own tools",
            )


def _hint_for(folder: Path) -> str:
    """Return what to name instead of a folder."""
    if (folder / "PG_VERSION").exists():
        return "that is a PostgreSQL database: gymdbd is for SQLite (use pg_dump)"
    found = nearby.near(str(folder))[:_SHOWN]
    return f"name the .db file itself{': ' if found else ''}{', '.join(found)}"


def _archive(path: Path, arguments: argparse.Namespace, steps: Steps) -> Path:
    """Return the archive that is named, or the proposed one."""
    if arguments.archive:
        first.require_place(
            files.absolute(arguments.archive), given=arguments.archive.is_absolute()
        )
        return files.absolute(arguments.archive)
    folder = path.parent.parent if path.parent.name in _OF_DATA else path.parent
    proposed = folder / _ARCHIVE
    if arguments.database or not asking.is_possible(steps.output):
        return proposed
    return files.absolute(Path(asking.text("Folder for the backups?", str(proposed))).expanduser())


def _out_of_git(archive: Path) -> list[str]:
    """Return how to keep the backups out of a repository that would take them up."""
    program = shutil.which("git")
    if program is None:
        return []
    command = [program, "-C", str(archive), "rev-parse", "--show-toplevel"]
    found = groups.run(command, timeout_s=_GIT_S, most=_MOST_BYTES)
    top = Path(os.fsdecode(found.output.rstrip(b"\n")))
    # The answer is 1 if nothing ignores them.
    command = [program, "-C", str(archive), "check-ignore", "--quiet", "x.db"]
    if found.code != 0 or groups.run(command, timeout_s=_GIT_S, most=_MOST_BYTES).code != 1:
        return []
    folder, top = archive.resolve(), top.resolve()
    if not folder.is_relative_to(top):
        return []  # `core.worktree` may name any folder.
    place = f"/{folder.relative_to(top)}/"
    line = f"echo {shlex.quote(place)} >> {shlex.quote(str(top / '.gitignore'))}"
    return [f"Keep the backups, which hold what the database holds, out of git:\n{line}"]


def _here() -> str:
    """Return how another machine logs in to this one, as the present user."""
    with contextlib.suppress(KeyError):
        return f"{pwd.getpwuid(os.geteuid()).pw_name}@{os.uname().nodename}"
    return os.uname().nodename


def _begin(settings: Config, jobs: list[BackupConfig], steps: Steps) -> int:
    """Check the configuration, and make the first backup of each database that has none."""
    is_well = first.check(settings, steps)
    worst = Outcome()
    for job in jobs:
        configuration.say_acting(as_owner.run_as_owner(job, settings))
        newest = Catalog(job.archive, Clock().zone).good_before(job.origin)
        if newest is not None:
            steps.tell("backup", f"kept: {newest.path}")
            steps.facts["backup"] = {"path": str(newest.path)}
            continue
        outcome = by_hand.run_job(job, settings, steps.output).outcome
        made = outcome.result
        if isinstance(made, BackupResult):
            steps.facts["backup"] = made.to_json()
            size, rows = files.to_size(made.size), rows_in(made.tables)
            done = f"{size}, {rows}, verified in {made.duration_s:.1f} s"
            steps.tell("backup", f"{made.path}: {done}")
        worst = max(worst, outcome, key=lambda one: one.exit_code)
    there = ["gymdbd", "init", "--host", _here()]
    there += ["--remote-database", str(jobs[0].database)]
    steps.next_steps = [
        *_out_of_git(jobs[0].archive),
        *first.service(settings, jobs[0].database, jobs[0].archive),
        *first.notices(settings),
        "Keep a copy on another machine; there:\n" + shlex.join(there),
        "See whether all is well: gymdbd status",
    ]
    return first.finish(steps, worst, is_well=is_well)

"""Arguments that several verbs share, and the types of their values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gymdbd.config import values

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from gymdbd.config.rate import Limit

Value = TypeVar("Value")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, also for errors"
    )


def add_job(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add the name of a job, for `configuration.choose_job`."""
    parser.add_argument(
        "job",
        nargs="?",
        metavar="JOB",
        help=f"a {kind} job of the configuration (default: the only one)",
    )


def add_archive(parser: argparse.ArgumentParser) -> None:
    """Add --archive, for `configuration.archives`."""
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="DIR",
        help="the folder of the backups (default: every archive of the configuration, or for "
        "--database without one data/backups/database)",
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add --archive and --database, which say where `databases.find` searches."""
    add_archive(parser)
    add_database(parser)


def add_database(parser: argparse.ArgumentParser) -> None:
    """Add --database, which says whose backups are meant."""
    parser.add_argument(
        "--database",
        dest="source",
        type=Path,
        metavar="PATH",
        help="the database whose backups are meant; with it, no configuration is needed",
    )


_RETAINED = {
    "days": "retain backups younger than N days",
    "count": "retain the newest N backups",
    "hourly": "retain the newest backup of each of the last N hours that have one",
    "daily": "the same for days",
    "weekly": "the same for weeks, which begin on Monday",
    "monthly": "the same for months",
    "yearly": "the same for years",
}


def add_retention(parser: argparse.ArgumentParser) -> None:
    """Add --keep-days, --keep-count, --keep-hourly, ..., for `retention`."""
    for name, text in _RETAINED.items():
        parser.add_argument(f"--keep-{name}", type=number, metavar="N", help=text)


def retention(arguments: argparse.Namespace) -> dict[str, int]:
    """Return the numbers of a retention rule that the command line gives, by name."""
    flags = {name: getattr(arguments, f"keep_{name}") for name in _RETAINED}
    return {name: given for name, given in flags.items() if given is not None}


def number(text: str) -> int:
    """Parse a number in the syntax of the configuration."""
    return _read(values.number, text)


def percent(text: str) -> int:
    """Parse a percentage in the syntax of the configuration."""
    return _read(values.percent, text)


def duration(text: str) -> timedelta:
    """Parse a duration in the syntax of the configuration."""
    return _read(values.duration, text)


def limit(text: str) -> Limit:
    """Parse a limit in the syntax of the configuration; `none` is no limit."""
    # It brings YAML, which most verbs can do without.
    from gymdbd.config.rate import NO_LIMIT, Limit, rate  # noqa: PLC0415

    return NO_LIMIT if text == "none" else Limit(((None, _read(rate, text)),))


def name(text: str) -> str:
    """Parse a name in the syntax of the names of jobs."""
    return _read(values.job_name, text)


def _read(reader: Callable[[str], Value], text: str) -> Value:
    try:
        return reader(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

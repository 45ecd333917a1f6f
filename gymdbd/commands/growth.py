"""show how the database or a table grew, and when it fell

The manifests of the backups have the size of the database and the rows of every
table. Without TABLE, this shows the size and each table, with a curve, how much
it grew a day, and the largest fall: between which two backups rows were lost.
With TABLE, it shows every fall of that table.

A table that was dropped has no rows since. Backups without a manifest, such as
those of older scripts, are left out.

examples:
  gymdbd growth
      the database of each archive of the configuration
  gymdbd growth members
      one table, and every night in which it fell
  gymdbd growth members --archive data/backups/database --json
      one archive, for a program
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, words
from gymdbd.archive import belonging, growth
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.errors import UsageError
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import configuration, curves, options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from datetime import tzinfo
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.growth import Fall, Point
    from gymdbd.origin import Origin
    from gymdbd.terminal.output import Output

_CURVE = 30
_MOST_FALLS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("table", nargs="?", metavar="TABLE", help="a table (default: all)")
    options.add_search(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print how the databases of the archives grew."""
    now = Clock()
    found, unread = _read(arguments, now)
    configuration.report_unread(unread)
    if arguments.table:
        found = _with_table(found, arguments.table)
    payload = {
        "databases": [
            {
                "archive": str(archive),
                "source": str(origin),
                "backups": len(backups),
                **_describe(backups, arguments.table, now.zone),
            }
            for archive, origin, backups in found
        ],
        "unread": [{"error": error.message, "hint": error.hint} for error in unread],
    }

    def show() -> None:
        if not found:
            output.print_line("there are no backups with a manifest yet; gymdbd backup makes one")
        for archive, origin, backups in found:
            output.print_line(f"{origin} in {archive}, {words.counted(len(backups), 'backup')}")
            if arguments.table:
                _print_table(growth.rows(backups, arguments.table), now.zone, output)
            else:
                _print_all(backups, now.zone, output)

    output.result(payload, show)
    return 0


_Found = list[tuple["Path", "Origin", "list[Backup]"]]


def _read(arguments: argparse.Namespace, now: Clock) -> tuple[_Found, list[GymdbdError]]:
    """Return the backups of each database, and why archives could not be read, if not all."""
    found: _Found = []
    unread: list[GymdbdError] = []
    archives = configuration.archives(arguments)
    for archive in archives:
        try:
            every = configuration.of_named(Catalog(archive, now.zone).backups(), arguments)
            backups = [one for one in every if one.manifest]
        except GymdbdError as error:
            unread.append(error)
            continue
        for origin in belonging.origins(backups):
            found.append((archive, origin, belonging.of(backups, origin)))
    if unread and len(unread) == len(archives):
        raise unread[0]
    return found, unread


def _with_table(found: _Found, table: str) -> _Found:
    """Return the databases that have, or had, the table; UsageError if there is none."""
    known = [growth.tables(backups) for _, _, backups in found]
    chosen = [one for one, names in zip(found, known, strict=True) if table in names]
    if not chosen:
        every = dict.fromkeys(name for names in known for name in names)
        raise UsageError(
            f"no backup has a table {table}{words.did_you_mean(table, every)}",
            hint="gymdbd growth prints all tables; capital letters count",
        )
    return chosen


def _describe(backups: list[Backup], table: str | None, zone: tzinfo) -> dict[str, Any]:
    names = [table] if table else sorted(growth.tables(backups))
    return {
        "size": _points(growth.sizes(backups), zone),
        "tables": {name: _points(growth.rows(backups, name), zone) for name in names},
    }


def _points(points: list[Point], zone: tzinfo) -> dict[str, Any]:
    return {
        "per_day": growth.per_day(points),
        "points": [_point(point, zone) for point in points],
        "falls": [
            {"from": _point(fall.before, zone), "to": _point(fall.after, zone), "lost": fall.lost}
            for fall in growth.falls(points)
        ],
    }


def _point(point: Point, zone: tzinfo) -> dict[str, Any]:
    return {
        "backup": point.backup.path.name,
        "created_at": clock.to_text(point.at, zone),
        "value": point.value,
    }


def _print_all(backups: list[Backup], zone: tzinfo, output: Output) -> None:
    """Print the size and every table, the largest first, each with its largest fall."""
    counted = {name: growth.rows(backups, name) for name in growth.tables(backups)}
    largest = sorted(counted, key=lambda name: (-counted[name][-1].value, name))
    rows = [_row("(the database)", growth.sizes(backups), files.to_size, zone)]
    rows += [_row(name, counted[name], _number, zone) for name in largest]
    output.table(["table", "before", "after", "a day", "curve", "largest fall"], rows)
    output.print_line()


def _row(name: str, points: list[Point], text: Callable[[float], str], zone: tzinfo) -> list[str]:
    per_day = growth.per_day(points)
    falls = growth.falls(points)
    largest = max(falls, key=lambda fall: fall.lost, default=None)
    return [
        name,
        text(points[0].value),
        text(points[-1].value),
        "-" if per_day is None else ("+" if per_day > 0 else "") + text(per_day),
        curves.drawn([point.value for point in points], _CURVE),
        _told(largest, text, zone) if largest else "",
    ]


def _print_table(points: list[Point], zone: tzinfo, output: Output) -> None:
    """Print one table with all its falls."""
    first, last = points[0].value, points[-1].value
    output.print_line(f"  {curves.drawn([point.value for point in points])}")
    output.print_line(f"  {_number(first)} to {words.counted(last, 'row')}")
    falls = growth.falls(points)
    if not falls:
        output.print_line("  it never fell")
    for fall in falls[:_MOST_FALLS]:
        verdict = fall.after.backup.verdict
        output.print_line(
            f"  {_told(fall, _number, zone)}  {fall.after.backup.path.name} ({verdict})"
        )
    if len(falls) > _MOST_FALLS:
        output.print_line(f"  and {len(falls) - _MOST_FALLS} older falls: see --json")
    output.print_line()


def _told(fall: Fall, text: Callable[[float], str], zone: tzinfo) -> str:
    """Say by how much it fell, and between which moments."""
    moments = [clock.to_minute(point.at, zone) for point in (fall.before, fall.after)]
    return f"-{text(fall.lost)} to {text(fall.after.value)}, {moments[0]} to {moments[1]}"


def _number(value: float) -> str:
    return f"{value:,.0f}"

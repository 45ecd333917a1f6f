"""write rows of a backup to a file, to review and apply

BACKUP is the name of a backup in an archive, a beginning of its time, a path,
or `latest`, the newest good backup. The rows are written to standard output, or
with --to to a new file with mode 0600, which is renamed into place when it is
complete.

sql  INSERT statements in one transaction, one row per line, with exact values.
     Review them, then apply all or none of them:
       sqlite3 -bail instance/gym_system.db < rentals.sql
     Only rows that the live database lacks are written: the rows that `gymdbd
     diff` reports as removed. The live database is the one given with
     --database, or that of the job that made the backup, or the one that the
     backup was made of; if there is none, every row is written. A row that
     exists with other values is listed and left out, and so is a row whose
     unique value now belongs to another row. With --replace, rows that differ
     are updated by primary key; no other row is changed or deleted. Triggers
     run and foreign keys are enforced, so counters and full-text indexes are
     right afterwards; parents come before the rows that refer to them. The
     first lines of the script list its requirements, such as a function of the
     application that a trigger calls. Unprintable characters are written as
     char(10); text that is not valid UTF-8, or has hundreds of line breaks, as
     CAST(X'..' AS TEXT).
csv  RFC 4180 with a header, in UTF-8, one table. Only text is quoted: "" is an
     empty text and an empty field is NULL, "1" is text and 1 a number. A blob
     is X'00FF', infinity 9e999.
db   A small SQLite database: the table with its definition and indexes, and the
     rows with their rowids (new rowids if a table has 2,000 columns).

For a full-text index or an R-tree, name the virtual table itself, not the
tables that store its content. Generated columns are left out: SQLite computes
them again.

--where takes one SQL expression, which may query other tables. It can only read
the backup: SQLite refuses whatever would write, attach, load or set something.
Nothing is written beside the backup.

examples:
  gymdbd rescue latest --to missing.sql
      all rows that the live database lacks
  gymdbd rescue latest --table members --where "id = 7"
      one member, if that row is missing
  gymdbd rescue latest --table rentals --to rentals.sql
      one table, into a file
  gymdbd rescue A.db --table members --as csv --to members.csv
      for a spreadsheet
  gymdbd rescue A.db --table members --table rentals --as db --to some.db
      two tables, as a small database
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import acting, files, partials
from gymdbd.clock import Clock
from gymdbd.errors import UsageError
from gymdbd.rows import forms
from gymdbd.rows.remarks import report
from gymdbd.rows.rescue import Rescue
from gymdbd.source.format import side_files
from gymdbd.terminal import by_hand, databases, naming, options
from gymdbd.terminal.json_rows import json_value
from gymdbd.words import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from gymdbd.rows.missing import Rescued
    from gymdbd.sqlite.sides import Side
    from gymdbd.terminal.databases import Database
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    naming.add_words(parser)
    naming.add_at(parser)
    parser.add_argument(
        "--table",
        action="append",
        metavar="T",
        help="the table; can be repeated (default: all tables; csv needs exactly one)",
    )
    parser.add_argument(
        "--where", default="", metavar="SQL", help="the rows to write (default: all)"
    )
    parser.add_argument(
        "--as",
        dest="form",
        choices=("sql", "csv", "db"),
        default="sql",
        help="the output format (default: sql)",
    )
    parser.add_argument(
        "--spreadsheet",
        action="store_true",
        help="put ' before text that a spreadsheet would run as a formula (csv)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="also update rows that exist with other values (sql)"
    )
    parser.add_argument(
        "--database",
        type=Path,
        metavar="PATH",
        help="the live database (default: that of the job, or the one the backup was made of)",
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="write to this file")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    options.add_archive(parser)
    options.add_json(parser)


@by_hand.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the rows."""
    _refuse(arguments)
    target = _target(arguments)
    found = naming.find_only(arguments, output)
    if target:
        _refuse_target(target, found.path)
    live = _live(found, arguments) if arguments.form == "sql" else None
    if arguments.form == "sql" and live is None:
        output.remark("no live database to compare with, so every row is written (--database)")
    with _opened(found, live, arguments) as rescue:
        if target is None:
            if found.distance:
                output.remark(found.distance.line(Clock().zone))
            _write(rescue, arguments, found.path.name, output)
            return 0
        written = _publish(rescue, arguments, found.path.name, target)
    payload = {
        "backup": str(found.path),
        "path": str(target),
        "form": arguments.form,
        "database": str(live) if live else None,
        "tables": {name: _count(done) for name, done in written.items()},
        "details": {name: _detail(done) for name, done in written.items()},
        "left_out": rescue.left_out,
    }
    remarks = _remarks(written, rescue)
    output.result(payload, lambda: _print(written, remarks, target, live, output))
    return 0


@contextlib.contextmanager
def _opened(found: Database, live: Path | None, arguments: argparse.Namespace) -> Iterator[Rescue]:
    """Yield the rows to write; SIGINT and SIGTERM stop it."""
    with (
        by_hand.stoppable() as check,
        found.opened() as side,
        _side_of(live, check) as other,
        Rescue(
            side,
            arguments.table,
            arguments.where,
            live=other,
            change=arguments.replace,
            check=check,
        ) as rescue,
    ):
        yield rescue


@contextlib.contextmanager
def _side_of(live: Path | None, check: Callable[[], None]) -> Iterator[Side | None]:
    if live is None:
        yield None
        return
    with databases.live_side(live, check) as side:
        yield side


def _live(found: Database, arguments: argparse.Namespace) -> Path | None:
    """Find the database to compare with, if it exists."""
    made_of = databases.made_of(found, arguments)
    if arguments.database or (made_of and made_of.is_file()):
        return made_of
    return None


def _count(done: Rescued | int) -> int:
    return done if isinstance(done, int) else done.added + done.updated


def _detail(done: Rescued | int) -> dict[str, Any]:
    if isinstance(done, int):
        return {"added": done}
    detail = asdict(done)
    for conflict in detail["conflicts"]:
        for side in ("key", "holder"):
            conflict[side] = {name: json_value(value) for name, value in conflict[side].items()}
    return detail


def _print(
    written: dict[str, Rescued] | dict[str, int],
    remarks: list[str],
    target: Path,
    live: Path | None,
    output: Output,
) -> None:
    counts = ", ".join(f"{name}: {counted(_count(done), 'row')}" for name, done in written.items())
    pairs = [("rescued", counts or "nothing"), ("to", str(target))]
    pairs += [("for", str(live))] if live else []
    output.facts(pairs)
    for line in remarks:
        output.print_line(line)


def _remarks(written: dict[str, Rescued] | dict[str, int], rescue: Rescue) -> list[str]:
    """List the rows that are not written, and why."""
    return [f"left out: {what}" for what in rescue.left_out] + [
        line
        for name, done in written.items()
        if not isinstance(done, int)
        for line in report(name, done)[not done.skipped :]
    ]


def _refuse(arguments: argparse.Namespace) -> None:
    """Refuse flags that contradict each other."""
    named = arguments.table or []
    if arguments.form == "csv" and len(named) != 1:
        raise UsageError("--as csv needs exactly one --table", hint="write one file for each table")
    if arguments.where and len(named) != 1:
        raise UsageError("--where needs exactly one --table", hint="write one file for each table")
    if arguments.form != "sql" and arguments.replace:
        raise UsageError(
            f"--replace works with --as sql, not with --as {arguments.form}",
            hint="leave it out: all selected rows are written",
        )
    if arguments.form != "csv" and arguments.spreadsheet:
        raise UsageError("--spreadsheet works with --as csv", hint="leave it out")
    if len(set(named)) < len(named):
        raise UsageError("a --table is named twice", hint="name each table once")
    if arguments.to is None and (arguments.form == "db" or arguments.json):
        what = "a database" if arguments.form == "db" else "with --json, the rows"
        raise UsageError(
            f"{what} cannot be written to standard output", hint="name a file with --to FILE"
        )


def _target(arguments: argparse.Namespace) -> Path | None:
    """Return the file to write, None for standard output; refuse one that is in the way."""
    if not arguments.to:
        return None
    target = files.absolute(arguments.to)
    if target.exists() and not arguments.force:
        raise UsageError(f"{target} exists", hint="name another file, or replace it with --force")
    strays = [side.name for side in side_files(target) if side.exists()]
    if arguments.form == "db" and strays:
        raise UsageError(
            f"SQLite would take {' and '.join(strays)} beside {target} for files of the new one",
            hint="write to another name; they may belong to a database in use",
        )
    return target


def _refuse_target(target: Path, backup: Path) -> None:
    """Refuse the backup itself, and for root a folder in which another user could put links."""
    if target.exists() and target.samefile(backup):
        raise UsageError(f"{target} is the backup to read from", hint="write to another file")
    if (user := acting.decider(target)) is not None:
        hint = "write to a folder of root's, or leave out --to: then standard output has the rows"
        raise acting.several({user: target, None: backup}).but(hint=hint)


def _write(rescue: Rescue, arguments: argparse.Namespace, origin: str, output: Output) -> None:
    file = output.binary()
    done: dict[str, Rescued] | dict[str, int] = {}
    with output.losing():
        if arguments.form == "csv":
            forms.write_csv(rescue, file, for_spreadsheet=arguments.spreadsheet)
        else:
            done = forms.write_sql(rescue, file, origin)
    for line in _remarks(done, rescue):
        output.remark(line)


def _publish(
    rescue: Rescue, arguments: argparse.Namespace, origin: str, target: Path
) -> dict[str, Rescued] | dict[str, int]:
    counts: dict[str, Rescued] | dict[str, int]
    with _building(target) as partial:
        if arguments.form == "db":
            counts = forms.write_database(rescue, partial)
        else:
            with partial.open("wb") as file:
                counts = (
                    forms.write_csv(rescue, file, for_spreadsheet=arguments.spreadsheet)
                    if arguments.form == "csv"
                    else forms.write_sql(rescue, file, origin)
                )
        files.publish(partial, target)
    return counts


@contextlib.contextmanager
def _building(target: Path) -> Iterator[Path]:
    """Yield an empty file beside the target; it is deleted if it is not published."""
    partial = partials.begin(target)
    with files.writing(target):
        try:
            files.create(partial)
            yield partial
        finally:
            partial.unlink(missing_ok=True)

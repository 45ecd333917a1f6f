"""show what changed between two backups, or since a backup

A and B are each the name of a backup in an archive, a beginning of its time, a
path, or `latest`; --at TIME, once or twice, stands in place of a name. Rows
that B has and A does not are added. Name the older one first; if you do not, a
note says so.

Rows are matched by primary key, or by rowid if the table has none. A row has
changed if any of its values has: 1 differs from 1.0, and `a` from `A`, even if
SQLite compares them as equal. Generated columns are ignored. If columns were
added or dropped, the common columns are compared. For a full-text index, its
texts (NAME_content) are compared; views are ignored. If a table has no key that
tells its rows apart, only the number of rows is compared.

--rows prints up to 20 added, 20 changed and 20 removed rows. With --json it
prints all of them: a blob is {"blob": "00FF"}, infinity is {"real": "inf"}, and
a changed row has only the columns that changed.

Nothing is written. The live database is read in one transaction, which lasts as
long as the comparison; if it has no WAL, the commits of the application wait
meanwhile. The comparison needs some tens of MB of memory for any size. (As
always when SQLite reads it, a WAL database that no process has open may get an
empty -wal and a -shm beside it. A raw backup is copied to the temporary folder
to read it.)

examples:
  gymdbd diff latest
      from the newest good backup to the live database of its job
  gymdbd diff A.db B.db
      from A to B
  gymdbd diff --at tuesday --at yesterday
      from the newest good backup of Tuesday to that of yesterday
  gymdbd diff latest --rows members
      the rows of one table
  gymdbd diff A.db --database instance/gym_system.db
      without a configuration

exit status:
  0  success, with or without differences; with --json the state is `unchanged`
     if there are none, otherwise `ok`
  1  failure; standard error says why and what to do
  2  invalid usage or configuration
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd.clock import Clock
from gymdbd.errors import UsageError
from gymdbd.rows.compare import Pair
from gymdbd.rows.difference import digest
from gymdbd.rows.large import Large
from gymdbd.terminal import by_hand, databases, json_rows, naming, options

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from gymdbd.rows.difference import RowDifference, TableDifference
    from gymdbd.terminal.databases import Database
    from gymdbd.terminal.output import Output

_SHOWN_ROWS = 20
_CHUNK = 64 * 1024
_SHOWN_LETTERS = 60
_SIGNS = {"removed": "-", "changed": "~", "added": "+"}


@dataclass
class _Found:
    """The result of a comparison; `lines` are the first rows as text."""

    tables: list[TableDifference]
    definitions: list[tuple[str, str, str]]
    lines: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    naming.add_words(parser, "A", "the first backup or database")
    naming.add_words(parser, "B", "the second (default: the live database)")
    naming.add_at(parser, "instead of A or B: the newest good backup made at or before TIME")
    parser.add_argument(
        "--rows", metavar="TABLE", help="compare only this table, and show its rows"
    )
    options.add_archive(parser)
    parser.add_argument(
        "--database",
        type=Path,
        metavar="PATH",
        help="the live database (default: that of the job whose archive contains A)",
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Compare and print the differences."""
    clock = Clock()
    started = time.monotonic()
    earlier, later = _sides(arguments)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
        with (
            by_hand.stoppable() as check,
            earlier.opened() as before,
            later.opened() as after,
            Pair(before, after, check=check) as pair,
        ):
            found = _compare(pair, arguments.rows, spool if output.json else None)
        payload = {
            "state": "ok" if found.definitions or _differing(found) else "unchanged",
            "from": earlier.describe(clock.zone),
            "to": later.describe(clock.zone),
            **_describe(found),
            "duration_s": round(time.monotonic() - started, 4),
        }
        if arguments.rows and output.json:
            spool.seek(0)
            output.result_with_list(payload, "rows", iter(lambda: spool.read(_CHUNK), ""))
            return 0
    now = clock.now()
    sides = [("from", earlier.shown(now, clock.zone)), ("to", later.shown(now, clock.zone))]
    if _is_backwards(earlier, later):
        sides.append(("note", "A is newer than B: rows shown as added have been removed since"))
    output.result(payload, lambda: _print(sides, found, output))
    return 0


def _describe(found: _Found) -> dict[str, Any]:
    """Return it as JSON values."""
    return {
        "digest": digest(found.tables),
        "tables": {table.name: asdict(table) for table in found.tables},
        "definitions": [
            {"type": kind, "name": name, "definition": what}
            for kind, name, what in found.definitions
        ],
    }


def _sides(arguments: argparse.Namespace) -> tuple[Database, Database]:
    first, *more = naming.named(arguments) or [naming.only([])]
    if len(more) > 1:
        raise UsageError(
            f"{len(more) + 1} backups are named, and two are compared at a time",
            hint="name one or two of them, by a name or with --at TIME",
        )
    if more and arguments.database:
        raise UsageError(
            "name either a second backup or --database, not both",
            hint="gymdbd diff A --database PATH compares A with the live database",
        )
    earlier = naming.find(first, arguments)
    if more:
        return earlier, naming.find(more[0], arguments)
    return earlier, databases.live_database(earlier, arguments)


def _is_backwards(earlier: Database, later: Database) -> bool:
    if earlier.backup is None:
        return later.backup is not None
    return later.backup is not None and earlier.backup.order > later.backup.order


def _compare(pair: Pair, table: str | None, spool: TextIO | None) -> _Found:
    if table is None:
        return _Found(list(pair.tables()), pair.definitions())
    if table not in pair.table_names():
        raise UsageError(
            f"neither side has a table {table} with rows of its own",
            hint=f"their tables are: {', '.join(pair.table_names()) or 'none'}",
        )
    found = _Found([pair.table(table)], [])
    shown = dict.fromkeys(_SIGNS, 0)
    with contextlib.closing(pair.rows(table)) as rows:
        for row in rows:
            shown[row.change] += 1
            if spool is not None:
                spool.writelines([] if spool.tell() == 0 else ["\n"])
                spool.writelines(json_rows.pieces(row))
            elif shown[row.change] <= _SHOWN_ROWS:
                found.lines.append(_in_a_line(row))
    for change, count in shown.items():
        if spool is None and count > _SHOWN_ROWS:
            found.lines.append(
                f"{_SIGNS[change]} and {count - _SHOWN_ROWS:,} more; --json prints all"
            )
    return found


def _differing(found: _Found) -> list[TableDifference]:
    return [table for table in found.tables if table.differs]


def _print(sides: list[tuple[str, str]], found: _Found, output: Output) -> None:
    output.facts([*sides, ("changes", digest(found.tables))])
    differing = _differing(found)
    if differing:
        output.print_line()
        output.table(
            ["table", "before", "after", "added", "changed", "removed", "note"],
            [_row(table) for table in differing],
        )
    for kind, name, definition in found.definitions:
        output.print_line(f"{kind} {name}: {definition}")
    if found.lines:
        output.print_line()
    for line in found.lines:
        output.print_line(line)


def _row(table: TableDifference) -> list[str]:
    notes = [table.definition] if table.definition != "same" else []
    notes += [f"column {name} is new" for name in table.columns_added]
    notes += [f"column {name} is gone" for name in table.columns_dropped]
    notes += [f"rows only counted: {table.problem}"] if table.problem else []
    counts = [
        "" if count is None else f"{count:,}"
        for count in (table.before, table.after, *_changes(table))
    ]
    return [table.name, *counts, ", ".join(notes)]


def _changes(table: TableDifference) -> list[int | None]:
    return [None] * 3 if table.problem else [table.added, table.changed, table.removed]


def _in_a_line(row: RowDifference) -> str:
    if row.change == "changed":
        values = [
            f"{name}: {_shown(old)} -> {_shown(row.after[name])}"
            for name, old in row.before.items()
        ]
    else:
        both = {**row.before, **row.after}
        values = [f"{name}={_shown(both[name])}" for name in both if name not in row.key]
    key = ", ".join(f"{name}={_shown(value)}" for name, value in row.key.items())
    return f"{_SIGNS[row.change]} {key}  {', '.join(values)}".rstrip()


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"a blob of {len(value):,} bytes"
    if isinstance(value, Large):
        return f"a {value.kind} of {value.size:,} bytes"
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…"

"""write rows of a backup as something to review and apply

BACKUP is the name of a backup in an archive, a path, or `latest`, the newest
good one. The rows go to standard output, or with --to into a new file for its
owner alone (mode 0600), which appears whole or not at all.

sql  INSERT OR REPLACE statements in one transaction, one row a line, each value
     exact. Look them over, then apply all or none of them:
       sqlite3 -bail instance/gym_system.db < rentals.sql
     A row with the same key, or with the same value in a unique column, is
     replaced. Foreign keys are not enforced meanwhile, so that replacing a row
     deletes no others; triggers run. The rows of a table without a primary key
     are added under new rowids: applied twice, they are there twice. What is
     not printable is written by its code, as char(10); a text that is no UTF-8,
     or has hundreds of line breaks, as CAST(X'..' AS TEXT).
csv  RFC 4180 with a header, in UTF-8, one table. Only text is in quotes: "" is
     an empty text and nothing at all is NULL, "1" is text and 1 a number. A
     blob is X'00FF', infinity 9e999.
db   A small SQLite database: the table as it was defined, with its indexes and
     the rows under their rowids.

Generated columns are left out: they come back by themselves.

--where takes one SQL expression, which may ask other tables too. It can read
the backup and do nothing else: SQLite is told to refuse what would write,
attach, load or set anything. The backup is opened as a file that does not
change, and nothing appears beside it.

examples:
  gymdbd rescue latest --table members --where "id = 7"
      one member, to look at
  gymdbd rescue latest --table rentals --to rentals.sql
      a table, into a file
  gymdbd rescue A.db --table members --as csv --to members.csv
      for a spreadsheet
  gymdbd rescue A.db --table members --table rentals --as db --to some.db
      two tables, as a small database
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.commands import common, looking

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from gymdbd.output import Output
    from gymdbd.sqlite.rescue import Rescue

NAME = "rescue"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("backup", metavar="BACKUP", help="the backup to read")
    looking.add_database(parser)
    parser.add_argument(
        "--table",
        action="append",
        required=True,
        metavar="T",
        help="the table; may be given several times (not with csv)",
    )
    parser.add_argument("--where", default="", metavar="SQL", help="which rows (default: all)")
    parser.add_argument(
        "--as",
        dest="form",
        choices=("sql", "csv", "db"),
        default="sql",
        help="the form (default: sql)",
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace FILE where it is there")
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="DIR",
        help="where BACKUP is looked up (default: every archive of the configuration)",
    )
    common.add_json(parser)


@common.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the rows."""
    from gymdbd.errors import UsageError
    from gymdbd.sqlite.rescue import Rescue
    from gymdbd.wording import counted

    _refuse(arguments)
    target = None
    if arguments.to:
        target = Path(os.path.abspath(arguments.to))  # noqa: PTH100 - links stay
        _refuse_target(target, arguments)
    found = looking.find(arguments.backup, arguments)
    if target and target.exists() and target.samefile(found.path):
        raise UsageError(f"{target} is what is to be read", hint="write to another file")
    with (
        looking.stoppable() as check,
        found.opened() as side,
        Rescue(side, arguments.table, arguments.where, check=check) as rescue,
    ):
        if target is None:
            _write(rescue, arguments.form, found.path.name, output)
            return 0
        counts = _publish(rescue, arguments.form, found.path.name, target)
    payload = {
        "backup": str(found.path),
        "path": str(target),
        "form": arguments.form,
        "tables": counts,
    }
    told = ", ".join(f"{name}: {counted(count, 'row')}" for name, count in counts.items())
    output.result(payload, lambda: output.facts([("rescued", told), ("to", str(target))]))
    return 0


def _refuse(arguments: argparse.Namespace) -> None:
    """Refuse flags that contradict each other."""
    from gymdbd.errors import UsageError

    if arguments.form == "csv" and len(arguments.table) > 1:
        raise UsageError("CSV has no place for a second table", hint="write one file for each")
    if arguments.where and len(arguments.table) > 1:
        raise UsageError("--where is about one table", hint="write one file for each table")
    if len(set(arguments.table)) < len(arguments.table):
        raise UsageError("a --table is named twice", hint="name each table once")
    if arguments.to is None and (arguments.form == "db" or arguments.json):
        what = "a database" if arguments.form == "db" else "beside --json what is rescued"
        raise UsageError(f"{what} cannot go to standard output", hint="name a file with --to FILE")


def _refuse_target(target: Path, arguments: argparse.Namespace) -> None:
    from gymdbd.errors import UsageError
    from gymdbd.sqlite import database

    if target.exists() and not arguments.force:
        raise UsageError(f"{target} is there already", hint="name another, or replace it: --force")
    strays = [one.name for one in database.side_files(target) if one.exists()]
    if arguments.form == "db" and strays:
        raise UsageError(
            f"{' and '.join(strays)} beside {target} would be taken for the new database's own",
            hint="write to another name; it may belong to a database in use",
        )


def _write(rescue: Rescue, form: str, origin: str, output: Output) -> None:
    file = output.binary()
    with output.losing():
        if form == "csv":
            rescue.write_csv(file)
        else:
            rescue.write_sql(file, origin)


def _publish(rescue: Rescue, form: str, origin: str, target: Path) -> dict[str, int]:
    from gymdbd import files

    with _building(target) as partial:
        if form == "db":
            counts = rescue.write_database(partial)
        else:
            with partial.open("wb") as file:
                counts = rescue.write_csv(file) if form == "csv" else rescue.write_sql(file, origin)
        files.publish(partial, target)
    return counts


@contextlib.contextmanager
def _building(target: Path) -> Iterator[Path]:
    """Give an empty file beside the target, which is gone again if it is not published."""
    from gymdbd import files
    from gymdbd.sqlite import snapshot

    partial = files.partial_path(target)
    with files.writing(target):
        try:
            snapshot.create(partial)
            yield partial
        finally:
            partial.unlink(missing_ok=True)

"""The SQL script that puts rows back: its statements, their order, and its requirements."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from gymdbd import words
from gymdbd.errors import UsageError
from gymdbd.rows import needs
from gymdbd.rows.keys import EARLIER, LATER
from gymdbd.rows.missing import Rescued
from gymdbd.rows.remarks import report, rows_text
from gymdbd.source import statements
from gymdbd.source.answers import FAULTS
from gymdbd.source.schema import quote
from gymdbd.sqlite import sides
from gymdbd.sqlite.sides import Side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from gymdbd.rows.missing import Comparison
    from gymdbd.rows.rescue import Rescue, Selection


class Script:
    """Writes the SQL script of a Rescue to a file."""

    def __init__(self, rescue: Rescue, file: BinaryIO) -> None:
        self._rescue = rescue
        self._file = file
        schema = rescue.live_schema
        self._schema = rescue.schema if schema is None else schema
        chosen = filter(self._can_write, rescue.selections)
        self._chosen = {selection.table.name: selection for selection in chosen}
        names = list(self._chosen)
        # Triggers maintain a table, such as a counter, while the script is applied; their result
        # is not overwritten.
        self._maintained = {
            table: needs.maintained_by(self._schema, table, names) for table in names
        }

    def _can_write(self, selection: Selection) -> bool:
        """Return whether sqlite3 reads the names as they are: it drops a CR before LF."""
        if not any("\r\n" in name for name in (selection.table.name, *selection.columns)):
            return True
        said = "a script cannot hold a name with CR and LF"
        if self._rescue.named:
            raise UsageError(f"{selection.table.name}: {said}", hint="write a database: --as db")
        self._rescue.left_out.append(f"{selection.table.name}: {said} (--as db can)")
        return False

    def write(self, origin: str) -> dict[str, Rescued]:
        """Write the script; return the outcome for the rows of each table."""
        order = self._order()
        compared = {name: self._rescue.compare(self._chosen[name]) for name in order}
        self._preface(origin, compared)
        result = {name: self._table(compared[name]) for name in order}
        for line in self._rebuilt():
            self._line(line)
        self._line("COMMIT;")
        for name, done in result.items():
            for line in report(name, done):
                self._comment(line)
        return {name: result[name] for name in self._chosen}

    def _order(self) -> list[str]:
        """Return the order: parents before the rows that refer to them, counters last."""
        names = list(self._chosen)
        schema = LATER if self._rescue.live else EARLIER
        before: dict[str, set[str]] = {}
        for name in names:
            parents = needs.parents(self._rescue.connection, name, schema)
            before[name] = {other for other in names if other.lower() in parents}
            before[name] |= set(self._maintained[name])
        for name in names:
            for writer in needs.written_by(self._schema, name, names):
                if writer not in self._maintained[name]:
                    before[writer].add(name)
                    before[name].discard(writer)
            for writer in self._maintained[name]:
                before[writer].discard(name)
        return needs.in_order(names, before)

    def _preface(self, origin: str, compared: dict[str, Comparison]) -> None:
        rescue = self._rescue
        lines = [f"Rows of {origin}. Review them, then apply all or none of them:"]
        lines += ["  sqlite3 -bail DATABASE < THIS_FILE"]
        if rescue.live:
            lines += [f"{rescue.live.path} lacked these rows when this was written."]
        lines += ["If a row exists already, that is an error, and nothing is applied."]
        if rescue.change:
            lines[-1] = "A row with the same key is updated; no other row is changed or deleted."
        for name, comparison in compared.items():
            lines += self._about(name, comparison)
            odd = [column for column in comparison.columns if not column.isprintable()]
            if odd or not name.isprintable():
                # Only here they can be escaped: in a statement they have to be as they are.
                lines.append(f"Take care, these names mislead the eye: {', '.join([name, *odd])}")
        lines += [f"left out: {what}" for what in rescue.left_out]
        lines += [f"Needed: {need}." for need in self._needs(compared)]
        if len(compared) > 1:
            lines.append(f"In this order, for foreign keys and triggers: {', '.join(compared)}.")
        lines += [] if rescue.encoding == "UTF-8" else [f"For a database in {rescue.encoding}."]
        for line in lines:
            self._comment(line)
        orphans = self._orphans(compared)
        for line in orphans:
            self._comment(line)
        self._line(f"PRAGMA foreign_keys = {'OFF' if orphans else 'ON'};")
        self._line("BEGIN IMMEDIATE;")
        if not orphans:
            self._line("PRAGMA defer_foreign_keys = ON;")

    def _about(self, name: str, comparison: Comparison) -> list[str]:
        which = f"where {comparison.where}" if comparison.where else "all rows"
        if comparison.live:
            which = f"{'rows' if comparison.where else 'all rows'} that are missing"
            which += " or differ" if self._updates(comparison) else ""
            which += f", where {comparison.where}" if comparison.where else ""
        elif comparison.compared:
            which += "; the table does not exist, so it is created"
        keyless = comparison.table.key is None and comparison.written == comparison.columns
        which += "; without a primary key, so its rows are added" if keyless else ""
        lines = [f"{name}: {which}"]
        if comparison.problem:
            lines.append(f"{name}: not compared with the live table: {comparison.problem}")
        if comparison.live and comparison.left_out:
            lines.append(
                f"{name}: columns left out, because they no longer exist: "
                f"{', '.join(comparison.left_out)}"
            )
        if self._maintained[name]:
            lines.append(
                f"{name}: maintained by triggers of {', '.join(self._maintained[name])}: "
                "their result is not overwritten"
            )
        return lines

    def _needs(self, compared: dict[str, Comparison]) -> list[str]:
        """Return what only the application has, by preparing the statements only."""
        rescue = self._rescue
        side = rescue.live or Side(rescue.path)
        changes = []
        for name, comparison in compared.items():
            if comparison.live or not comparison.compared:
                columns = comparison.columns
                changes.append(needs.example(name, columns, update=False))
                changes += [needs.example(name, columns, update=True)] if rescue.change else []
        with closing(sides.Opened(side)) as opened:
            return list(needs.missing_here(opened.connection, self._schema, compared, changes))

    def _orphans(self, compared: dict[str, Comparison]) -> list[str]:
        """Return the tables whose foreign keys are violated in the backup and so not enforced."""
        found = []
        for name in compared:
            try:
                (count,) = self._rescue.connection.execute(
                    "SELECT count(*) FROM pragma_foreign_key_check(CAST(? AS TEXT), ?)",
                    (statements.argument(self._rescue.connection, name), EARLIER),
                ).fetchone()
            except FAULTS as error:
                found.append(f"{name}: foreign keys are not enforced: {error}")
            else:
                if count:
                    found.append(
                        f"{name}: foreign keys are not enforced: in the backup, "
                        f"{rows_text(count)} of it refer to missing rows"
                    )
        return found

    def _table(self, comparison: Comparison) -> Rescued:
        done = Rescued(problem=comparison.problem, unsure=comparison.unsure)
        keyless = comparison.table.key is None or not comparison.columns
        if comparison.problem and comparison.live and keyless:
            done.skipped = True
            return done
        with self._rescue.sorting(comparison.table):
            return self._rows_of(comparison, done)

    def _rows_of(self, comparison: Comparison, done: Rescued) -> Rescued:
        selection = self._chosen[comparison.table.name]
        created = comparison.compared and comparison.live is None
        if created:
            self._line(f"{selection.definition};")
        maintained = self._maintained[comparison.table.name]
        for row in comparison.missing():
            self._insert(comparison, row, maintained=bool(maintained))
            done.added += 1
        self._differing(comparison, done, maintained=bool(maintained))
        done.taken, named = comparison.taken(
            also_changed=self._updates(comparison) and not maintained
        )
        done.conflicts += named
        for sql in self._objects(selection) if created else []:
            self._line(f"{sql};")
        return done

    def _updates(self, comparison: Comparison) -> bool:
        return self._rescue.change and bool(comparison.target)

    def _differing(self, comparison: Comparison, done: Rescued, *, maintained: bool) -> None:
        if not comparison.live:
            return
        if self._updates(comparison) and not maintained:
            for row in comparison.differing():
                self._update(comparison, row)
                done.updated += 1
        else:
            done.changed, done.conflicts = comparison.count_changed()

    def _objects(self, selection: Selection) -> list[str]:
        triggers = needs.triggers_on(self._rescue.schema, selection.table.name)
        return [*selection.indexes, *triggers.values()]

    def _insert(self, comparison: Comparison, row: Sequence[Any], *, maintained: bool) -> None:
        name = quote(comparison.table.name)
        names = ", ".join(map(quote, comparison.written))
        self._text(f"INSERT {self._abort(comparison)}INTO {name} ({names}) VALUES (")  # noqa: S608 - quoted
        self._values(row)
        target = comparison.target
        if maintained and target and not comparison.table.virtual:
            self._text(f") ON CONFLICT ({', '.join(map(quote, target))}) DO NOTHING;\n")
        elif self._upserts(comparison) and target:
            self._text(f") {self._conflict(comparison)};\n")
        else:
            self._text(");\n")

    def _update(self, comparison: Comparison, row: Sequence[Any]) -> None:
        if self._upserts(comparison):
            self._insert(comparison, row, maintained=False)
            return
        values = dict(zip(comparison.written, row, strict=True))
        self._text(f"UPDATE {self._abort(comparison)}{quote(comparison.table.name)} SET ")  # noqa: S608 - quoted
        self._assign(
            [name for name in comparison.columns if name not in comparison.key], values, ", "
        )
        self._text(" WHERE ")
        self._assign(comparison.key, values, " AND ")
        self._text(";\n")

    def _upserts(self, comparison: Comparison) -> bool:
        """Return whether rows are written with ON CONFLICT DO UPDATE.

        That does not work for virtual tables, and fires BEFORE INSERT triggers for each row.
        """
        triggers = needs.triggers_on(self._schema, comparison.table.name).values()
        early = any("BEFORE" in sql.upper() for sql in triggers)
        return self._rescue.change and not (comparison.table.virtual or early)

    def _conflict(self, comparison: Comparison) -> str:
        names = [name for name in comparison.columns if name not in comparison.target]
        key = ", ".join(map(quote, comparison.target))
        if not names:
            return f"ON CONFLICT ({key}) DO NOTHING"
        assigned = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in names)
        return f"ON CONFLICT ({key}) DO UPDATE SET {assigned}"

    def _abort(self, comparison: Comparison) -> str:
        """Override the table's own ON CONFLICT clauses, because REPLACE would delete other rows."""
        sql = self._schema.get(("table", comparison.table.name), "")
        return "OR ABORT " if "CONFLICT" in sql.upper() else ""

    def _rebuilt(self) -> list[str]:
        """Return the statements that rebuild full-text indexes without triggers."""
        lines = []
        for index in needs.external_indexes(self._schema):
            view = self._schema.get(("view", index.content), "")
            for name in self._chosen:
                triggers = needs.triggers_on(self._schema, name).values()
                maintained = any(needs.mentions(sql, index.name) for sql in triggers)
                reads = index.content.lower() == name.lower() or (
                    index.content and needs.mentions(view, name)
                )
                if reads and not maintained:
                    own = quote(index.name)
                    lines.append(f"INSERT INTO {own} ({own}) VALUES ('rebuild');")  # noqa: S608 - quoted
        return list(dict.fromkeys(lines))

    def _assign(self, names: Sequence[str], values: dict[str, Any], between: str) -> None:
        for at, name in enumerate(names):
            self._text(f"{between if at else ''}{quote(name)} = ")
            self._rescue.literals.write_sql(self._file, values[name])

    def _values(self, row: Sequence[Any]) -> None:
        for at, value in enumerate(row):
            self._text(", " if at else "")
            self._rescue.literals.write_sql(self._file, value)

    def _line(self, text: str) -> None:
        self._text(f"{text}\n")

    def _comment(self, text: str) -> None:
        """Write a text as a comment, in one line."""
        self._line(f"-- {words.printable(text)}")

    def _text(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "surrogateescape"))

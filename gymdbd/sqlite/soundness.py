"""Checking a database: damage, violated constraints, and what this SQLite cannot check.

If an index, a column or a schema needs what only the application or a newer SQLite has, the rest
is still checked: every page by the quick check, every other table with its indexes.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import answers, statements
from gymdbd.source.answers import FAULTS
from gymdbd.source.counting import StandIns
from gymdbd.source.schema import (
    is_tolerant,
    load_schema,
    quote,
    require_types,
    unknown_definition,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

_MOST_TOLD = 20
# Lines that one statement may return: there may be a violation in each row.
_MOST_LINES = 1_000_000
_QUICK, _FULL = "quick_check", "integrity_check"

_VIOLATION = re.compile(
    r"(NULL|TEXT|NUMERIC) value in |CHECK constraint failed in |non-[A-Z]+ value in ", re.DOTALL
)
# A page that could not be read is reported like damage, with SQLite's error code.
_UNREAD = re.compile(r"unable to get the page\. error code=(\d+)")
# The report on an FTS index that could not be read, in SQLite 3.44 and later.
_NOT_VALIDATED = re.compile(r"unable to validate the inverted index for ", re.DOTALL)
# What a table says that no word can be looked up in.
_NO_MATCH = re.compile(r"unable to use function MATCH|no such column")
# The report on one that does not fit its texts, in the same releases.
_UNFIT = re.compile(r"malformed inverted index for FTS[34] table main\.(?P<name>.+)", re.DOTALL)
# FTS3 and FTS4 compare the index with a table that the application keeps, and may be behind.
_BORROWED = re.compile(r".*\bUSING\b.*\bfts[34]\b.*\bcontent\s*=", re.IGNORECASE | re.DOTALL)
# The report on pages whose table or index could not be read in the schema.
_UNCLAIMED = re.compile(r"Page \d+(:| is) never used|max rootpage .* disagrees with header")
# The report on a key whose collation is only a stand-in.
_ORDER = re.compile(r"row not in PRIMARY KEY order ", re.DOTALL)


@dataclass(frozen=True)
class Soundness:
    """The result of a check.

    `problems` is damage. `violations` are rows that violate a constraint of their table; the file
    may still be sound. `unchecked` is what this SQLite could not check, and why.
    """

    problems: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def broken(self) -> list[str]:
        """Return the violations in one sentence, or no sentence."""
        return [f"constraints are violated: {'; '.join(self.violations)}"] * bool(self.violations)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return the findings that need no action, a sentence each."""
        return (*self.broken, *(f"not checked: {what}" for what in self.unchecked))


def check(connection: Connection, *, quick: bool = False) -> Soundness:
    """Check a database as far as this SQLite can; nothing is changed.

    A `quick` check does not compare indexes with their tables. Foreign keys are not checked: an
    application may leave them unenforced on purpose. Raises sqlite3.Error if reading fails or is
    interrupted.
    """
    return _Check(connection, _QUICK if quick else _FULL).run()


def foresee(connection: Connection) -> tuple[str, ...]:
    """Return what a check could not check, without reading any row.

    Damage is neither reported nor raised.
    """
    return _Preview(connection, _FULL).run().unchecked


def is_damage(line: str) -> bool:
    """Return whether a line of SQLite's check reports damage."""
    return line != "ok" and not _VIOLATION.match(line) and not _NOT_VALIDATED.match(line)


def by_version(what: str) -> str:
    """Say what was not checked, and by which SQLite: another one may be able to."""
    return f"{what}, by SQLite {sqlite3.sqlite_version}"


def is_borrowed(definition: str) -> bool:
    """Return whether a full-text index is of texts that the application keeps elsewhere."""
    return _BORROWED.match(definition) is not None


class _Check:
    def __init__(self, connection: Connection, pragma: str) -> None:
        self._connection = connection
        self._pragma = pragma
        self._problems: dict[str, None] = {}
        self._violations: Counter[str] = Counter()
        self._unchecked: dict[str, None] = {}
        self._tolerant = False

    def run(self) -> Soundness:
        try:
            load_schema(self._connection)
            require_types(self._connection)
        except FAULTS as error:
            self._note(self._take(error))
        else:
            self._check()
        violations = [
            line if times == 1 else f"{line} ({times} times)"
            for line, times in self._violations.items()
        ]
        return Soundness(
            tuple(self._problems)[:_MOST_TOLD],
            tuple(violations[:_MOST_TOLD]),
            tuple(self._unchecked),
        )

    def _check(self) -> None:
        self._tolerant = is_tolerant(self._connection)
        if self._tolerant:
            self._note(unknown_definition(self._connection))
        reason = self._ask(f"PRAGMA {self._pragma}({_MOST_LINES})")
        if reason:
            self._violations.clear()
            # In this order: a function that has a stand-in is never unknown again.
            self._check_tables()
            self._check_pages()
        self._look_at_virtual_tables()

    def _check_pages(self) -> None:
        """Check every page and record of the file, with stand-ins for what is missing."""
        with StandIns(self._connection) as stand_ins:
            reason = self._ask(f"PRAGMA {_QUICK}({_MOST_LINES})", stand_ins)
        if reason:
            self._note(f"which pages belong to no table ({reason})")

    def _check_tables(self) -> None:
        """Check each table, and note those that cannot be checked."""
        for name, is_virtual in list(self._tables()):
            reason = self._ask(f"PRAGMA {self._pragma}({quote(name)})")
            if not reason:
                continue
            if is_virtual:
                self._note(f"virtual table {name} ({self._lack(name) or reason})")
            elif self._pragma == _FULL and not self._ask(f"PRAGMA {_QUICK}({quote(name)})"):
                self._note(f"the indexes of table {name} ({reason})")
            else:
                self._note(f"more than the pages of table {name} ({reason})")

    def _look_at_virtual_tables(self) -> None:
        """Note the virtual tables whose module or tokenizer this SQLite does not have."""
        for name, is_virtual in list(self._tables()):
            lack = self._lack(name) if is_virtual else ""
            if lack:
                self._note(f"virtual table {name} ({lack})")

    def _lack(self, name: str) -> str:
        """Return what a virtual table needs and this SQLite has not, or ""."""
        table = quote(name)
        # Newer releases of FTS5 look for a tokenizer only when they need it.
        for end in ("LIMIT 0", f"WHERE {table} MATCH 'x' LIMIT 1"):
            try:
                statements.execute(self._connection, f"SELECT 1 FROM {table} {end}").fetchone()  # noqa: S608 - quoted
            except FAULTS as error:
                said = answers.words(error)
                if answers.meaning(error) == answers.UNKNOWN and not _NO_MATCH.match(said):
                    return said
        return ""

    def _tables(self) -> Iterator[tuple[str, bool]]:
        for name, sql in self._definitions():
            yield name, sql.upper().startswith("CREATE VIRTUAL TABLE")

    def _definitions(self) -> list[tuple[str, str]]:
        try:
            return self._connection.execute(
                "SELECT CAST(name AS TEXT), CAST(coalesce(sql, '') AS TEXT) FROM sqlite_master "
                "WHERE type = 'table'"
            ).fetchall()
        except FAULTS as error:
            self._take(error)
            return []

    def _ask(self, sql: str, stand_ins: StandIns | None = None) -> str:
        """Note the results of a statement; return why it could not be executed, or ""."""
        try:
            rows = stand_ins.execute(sql) if stand_ins else self._connection.execute(sql)
            for number, row in enumerate(rows, 1):
                for line in str(row[0]).splitlines():
                    self._sort(line, stood_in=stand_ins is not None)
                if len(self._problems) >= _MOST_TOLD:
                    break
                if number == _MOST_LINES:
                    self._note(f"what comes after the first {number:,} violations")
        except FAULTS as error:
            return self._take(error)
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        return ""

    def _sort(self, line: str, *, stood_in: bool) -> None:
        if line == "ok" or line.startswith("*** in database "):
            return
        unread = _UNREAD.search(line)
        if unread and int(unread[1]) & 0xFF == sqlite3.SQLITE_IOERR:
            error = sqlite3.OperationalError(f"disk I/O error: {line}")
            error.sqlite_errorcode = int(unread[1])
            raise error
        if self._tolerant and _UNCLAIMED.search(line):
            return
        if _NOT_VALIDATED.match(line) or self._is_behind(line):
            self._note(line)
        elif _VIOLATION.match(line):
            if not stood_in:
                self._violations[line] += 1
        elif not (stood_in and _ORDER.match(line)):
            self._problems[line] = None

    def _is_behind(self, line: str) -> bool:
        """Return whether a line is about an index that the application may leave behind."""
        unfit = _UNFIT.fullmatch(line)
        return unfit is not None and any(
            name == unfit["name"] and is_borrowed(sql) for name, sql in self._definitions()
        )

    def _take(self, error: Exception) -> str:
        """Note damage, return what is unknown to this SQLite, raise everything else."""
        kind = answers.meaning(error)
        if kind in (answers.DAMAGED, answers.NOT_A_DATABASE):
            self._problems[answers.words(error)] = None
            return ""
        if kind == answers.UNKNOWN:
            return answers.words(error)
        raise error

    def _note(self, what: str) -> None:
        if not what:
            return
        self._unchecked[by_version(what)] = None


class _Preview(_Check):
    """Lets SQLite prepare each statement of a check, and interrupts it before it reads."""

    def _check_pages(self) -> None:
        """Skip the pages: with stand-ins they can be checked."""

    def _ask(self, sql: str, stand_ins: StandIns | None = None) -> str:
        self._connection.set_progress_handler(lambda: 1, 1)
        try:
            return super()._ask(sql, stand_ins)
        finally:
            self._connection.set_progress_handler(None, 0)

    def _take(self, error: Exception) -> str:
        return answers.words(error) if answers.meaning(error) == answers.UNKNOWN else ""


def foreign_keys(connection: Connection) -> Soundness:
    """Find the tables whose foreign keys are violated, as `violations`."""
    found, unchecked = [], []
    with contextlib.suppress(*FAULTS):
        rows = connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_TOLD)
        return Soundness(violations=tuple(sorted({str(row[0]) for row in rows})))
    names = connection.execute(
        "SELECT CAST(name AS TEXT) FROM sqlite_master WHERE type = 'table'"
    ).fetchall()
    for (name,) in names:
        try:
            if connection.execute(f"PRAGMA foreign_key_check({quote(name)})").fetchone():
                found.append(name)
        except UnicodeEncodeError:
            unchecked.append(f"the foreign keys of table {name} (its name is not UTF-8)")
        except FAULTS as error:
            if answers.meaning(error) != answers.UNKNOWN:
                raise
            unchecked.append(f"the foreign keys of table {name} ({answers.words(error)})")
    return Soundness(violations=tuple(sorted(found)), unchecked=tuple(unchecked))

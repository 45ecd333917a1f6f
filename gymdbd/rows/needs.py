"""What putting rows back needs of a database: an order of tables, functions, indexes."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.rows import tables
from gymdbd.source import statements
from gymdbd.source.schema import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from gymdbd.rows.tables import Schema

_FUNCTION = re.compile(r"(?:no such|unknown) function: ([^()]+)(?:\(\))?", re.DOTALL)
_COLLATION = re.compile(r"no such collation sequence: (.+)", re.DOTALL)
_QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_CLAUSE = re.compile(r"\b(?:CHECK|AS)\s*\(", re.IGNORECASE)
_CALL = re.compile(r"(?<![\w\"'`\]])([A-Za-z_]\w*)\s*\(")
# Words that may precede a parenthesis in an expression and are not functions.
_WORDS = {
    "in",
    "and",
    "or",
    "not",
    "cast",
    "exists",
    "case",
    "when",
    "then",
    "else",
    "between",
    "is",
}
_MOST = 50
_CONTENT = re.compile(r"\bcontent\s*=\s*(\"[^\"]*\"|'[^']*'|\[[^\]]*\]|`[^`]*`|\w*)", re.IGNORECASE)
_ON = re.compile(r"\bON\s+(\"[^\"]+\"|\[[^\]]+\]|`[^`]+`|'[^']+'|[^\s(]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Index:
    """A full-text index whose texts are in another table or view, or nowhere if `content` is ""."""

    name: str
    content: str


def external_indexes(schema: Schema) -> list[Index]:
    """List the full-text indexes without texts of their own."""
    return [
        Index(name, found[1].strip("\"'[]`"))
        for (kind, name), sql in schema.items()
        if kind == "table" and tables.is_full_text(sql) and (found := _CONTENT.search(sql))
    ]


def triggers_on(schema: Schema, table: str) -> dict[str, str]:
    """Return the triggers of a table: the SQL of each by its name."""
    return {
        name: sql
        for (kind, name), sql in schema.items()
        if kind == "trigger"
        and (found := _ON.search(sql))
        and _unquoted(found[1]).lower() == table.lower()
    }


def mentions(sql: str, name: str) -> bool:
    """Return whether a statement names a table, a view or a function."""
    return re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", sql, re.IGNORECASE) is not None


def maintained_by(schema: Schema, table: str, others: Iterable[str]) -> list[str]:
    """Return those of `others` whose triggers maintain a table, such as a counter."""
    name = rf"[\"'\[`]?{re.escape(table)}[\"'\]`]?(?![\w$])"
    changes = re.compile(
        rf"\bUPDATE\s+(OR\s+\w+\s+)?{name}|\bREPLACE\s+INTO\s+{name}"
        rf"|\bINSERT\s+OR\s+(IGNORE|REPLACE)\s+INTO\s+{name}"
        rf"|\bINSERT\s+INTO\s+{name}[^;]*\bON\s+CONFLICT\b",
        re.IGNORECASE | re.DOTALL,
    )
    return [
        other
        for other in others
        if other != table
        and any(changes.search(body) for body in map(_body, triggers_on(schema, other).values()))
    ]


def written_by(schema: Schema, table: str, others: Iterable[str]) -> list[str]:
    """Return those of `others` whose triggers add rows to a table, such as a log."""
    add = re.compile(
        rf"\bINSERT\s+INTO\s+[\"'\[`]?{re.escape(table)}[\"'\]`]?(?![\w$])", re.IGNORECASE
    )
    return [
        other
        for other in others
        if other != table
        and any(add.search(body) for body in map(_body, triggers_on(schema, other).values()))
    ]


def parents(connection: sqlite3.Connection, table: str, schema: str) -> set[str]:
    """Return the tables that a table's foreign keys refer to, in lower case."""
    found = connection.execute(
        'SELECT DISTINCT lower("table") FROM pragma_foreign_key_list(CAST(? AS TEXT), ?)',
        (statements.argument(connection, table), schema),
    )
    return {name for (name,) in found}


def in_order(names: list[str], before: dict[str, set[str]]) -> list[str]:
    """Sort names so that each comes after those in its `before`, as far as possible."""
    rest, order = list(names), []
    while rest:
        ready = (name for name in rest if not before[name] & (set(rest) - {name}))
        order.append(next(ready, rest[0]))
        rest.remove(order[-1])
    return order


def missing_here(
    connection: sqlite3.Connection, schema: Schema, written: Iterable[str], changes: Iterable[str]
) -> Iterator[str]:
    """Yield what statements that change tables need and this SQLite does not have, in words.

    `connection` is read-only, so no statement is executed. It gets stand-ins for what is missing,
    and must not be used for anything else afterwards.
    """
    found: set[str] = set()
    # Who runs the statements trusts this schema: triggers may write to virtual tables, for example.
    connection.execute("PRAGMA trusted_schema=ON")
    for table in written:
        for function in _unknown_in_checks(connection, schema.get(("table", table), "")):
            found.add(f"the function {function}{_users(schema, function)}")
    yield from sorted(found)
    for change in changes:
        for _ in range(_MOST):
            try:
                # EXPLAIN does not fail if a function is missing.
                connection.execute(change)
            except (sqlite3.Error, UnicodeError) as error:
                if "readonly" in str(error):
                    break
                need = _stand_in(connection, schema, str(error))
                if need not in found and not isinstance(error, UnicodeError):
                    found.add(need)
                    yield need
                if not _FUNCTION.fullmatch(str(error)) and not _COLLATION.fullmatch(str(error)):
                    break
            else:
                break


def _unknown_in_checks(connection: sqlite3.Connection, sql: str) -> set[str]:
    """Return the functions in a table's CHECKs and generated columns that this SQLite lacks.

    SQLite reports these only when it evaluates them.
    """
    known = {
        name.lower() for (name,) in connection.execute("SELECT name FROM pragma_function_list")
    }
    plain = _QUOTED.sub(" ", sql)
    found: set[str] = set()
    for start in _CLAUSE.finditer(plain):
        depth, end = 1, start.end()
        while depth and end < len(plain):
            depth += {"(": 1, ")": -1}.get(plain[end], 0)
            end += 1
        found |= set(_CALL.findall(plain[start.end() : end]))
    return {name for name in found if name.lower() not in known | _WORDS}


def _stand_in(connection: sqlite3.Connection, schema: Schema, problem: str) -> str:
    if function := _FUNCTION.fullmatch(problem):
        connection.create_function(function[1], -1, lambda *_: None)
        return f"the function {function[1]}{_users(schema, function[1])}"
    if collation := _COLLATION.fullmatch(problem):
        connection.create_collation(collation[1], lambda a, b: (a > b) - (a < b))
        return f"the collation {collation[1]}"
    return problem


def _users(schema: Schema, function: str) -> str:
    """Return what calls a function, in words."""
    found = [
        f"{kind} {name}"
        for (kind, name), sql in schema.items()
        if kind in ("trigger", "index", "table", "view") and mentions(sql, function)
    ]
    return f", called by {', '.join(found)}" if found else ""


def example(table: str, columns: Collection[str], *, update: bool) -> str:
    """Return a statement that changes a table as putting rows back would."""
    if update:
        values = ", ".join(f"{quote(name)} = NULL" for name in columns)
        return f"UPDATE main.{quote(table)} SET {values} WHERE 0"  # noqa: S608 - quoted
    names, nulls = ", ".join(map(quote, columns)), ", ".join("NULL" for _ in columns)
    return f"INSERT INTO main.{quote(table)} ({names}) SELECT {nulls} WHERE 0"


def _body(trigger: str) -> str:
    """Return the statements of a trigger, without its event."""
    start = re.search(r"\bBEGIN\b", trigger, re.IGNORECASE)
    return trigger[start.end() :] if start else trigger


def _unquoted(name: str) -> str:
    with contextlib.suppress(IndexError):
        if name[0] in "\"'[`":
            return name[1:-1].replace('""', '"')
    return name.rpartition(".")[2] if "." in name else name

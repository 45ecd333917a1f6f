"""The definition of a table: its columns, and the key that identifies its rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import statements
from gymdbd.source.schema import holds_rows, quote

if TYPE_CHECKING:
    import sqlite3

# The SQL of everything that a database defines, by (type, name).
Schema = dict[tuple[str, str], str]

_ROWID_NAMES = ("rowid", "_rowid_", "oid")
_FTS = re.compile(r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+fts[345]\b", re.IGNORECASE | re.DOTALL)
# What FTS stores besides the texts, which are in `<table>_content`.
# https://www.sqlite.org/fts5.html section 9, https://www.sqlite.org/fts3.html section 9.1.
_FTS_INDEXES = ("data", "idx", "docsize", "config", "segments", "segdir", "stat")
# What other modules of SQLite store: https://www.sqlite.org/rtree.html section 6.
_SHADOWS = ("content", "node", "parent", "rowid")
_VIRTUAL = re.compile(r"CREATE\s+VIRTUAL\s+TABLE\b", re.IGNORECASE)
_KEEPING = re.compile(
    r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+(fts[345]|rtree|rtree_i32)\b",
    re.IGNORECASE | re.DOTALL,
)
_BORROWED = re.compile(r"\bcontent\s*=", re.IGNORECASE)
_ROWID_CID = -1


@dataclass(frozen=True)
class Column:
    """A column that holds values; generated columns are not among those of a table."""

    name: str
    type: str

    @property
    def affinity(self) -> str:
        """Return the affinity of its declared type; a STRICT table's ANY counts as BLOB.

        https://www.sqlite.org/datatype3.html section 3.1.
        """
        declared = self.type.upper()
        if "INT" in declared:
            return "INTEGER"
        if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
            return "TEXT"
        if "BLOB" in declared or declared in ("", "ANY"):
            return "BLOB"
        return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


@dataclass(frozen=True)
class Key:
    """The columns that identify a row, with the collations of their index.

    `nullable` is set if they may be NULL, in several rows too: in a rowid table the columns of a
    primary key may, unless they are declared NOT NULL.
    """

    columns: tuple[str, ...]
    collations: tuple[str, ...]
    nullable: bool = False


# https://www.sqlite.org/datatype3.html section 7.
COLLATIONS = frozenset({"BINARY", "NOCASE", "RTRIM"})


@dataclass(frozen=True)
class Table:
    """A table that holds rows. `rowid` is a name under which its rowid can be read, if any.

    `key` is the primary key, None if none is declared. `integer_key` is set if the key is a single
    column that is an alias of the rowid.
    """

    name: str
    columns: tuple[Column, ...]
    key: Key | None
    rowid: str | None
    integer_key: bool
    virtual: bool = False

    @property
    def unknown_orders(self) -> list[str]:
        """Return the collations of its key that only the application has."""
        return sorted(set(self.key.collations if self.key else ()) - COLLATIONS)

    @property
    def is_sorted_by_application(self) -> bool:
        """Return whether SQLite cannot find a row of it without such a collation."""
        return self.rowid is None and bool(self.unknown_orders)


def read_schema(connection: sqlite3.Connection, schema: str = "main") -> Schema:
    """Read the schema of a database, without SQLite's own tables."""
    rows = connection.execute(
        # In SQLite a name may be a blob too.
        "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(coalesce(sql, '') AS TEXT) "  # noqa: S608 - quoted
        f"FROM {quote(schema)}.sqlite_master"
    )
    return {(kind, name): sql for kind, name, sql in rows if not name.startswith("sqlite_")}


def is_full_text(sql: str) -> bool:
    """Return whether a statement defines a full-text index."""
    return _FTS.match(sql) is not None


def shadows(schema: Schema) -> set[str]:
    """Return the shadow tables, which only the virtual table that owns them may write."""
    virtual = [
        name for (kind, name), sql in schema.items() if kind == "table" and _VIRTUAL.match(sql)
    ]
    held = {f"{name}_{part}" for name in virtual for part in (*_FTS_INDEXES, *_SHADOWS)}
    return held & {name for kind, name in schema if kind == "table"}


def holding(schema: Schema) -> list[str]:
    """List the tables whose rows can be put back, sorted, with FTS indexes and R-trees.

    Virtual tables of other modules, and full-text indexes without texts, have no such rows.
    """
    hidden = shadows(schema)
    return sorted(
        name
        for (kind, name), sql in schema.items()
        if kind == "table"
        and name not in hidden
        and (holds_rows(name, sql) or (_KEEPING.match(sql) and not _BORROWED.search(sql)))
    )


def names(schema: Schema) -> list[str]:
    """List the tables whose rows somebody inserted, sorted.

    Of a full-text index that is `<table>_content`, which holds its texts; its other tables are
    derived from them. Other shadow tables, such as those of an R-tree, are ordinary tables.
    """
    indexes = {
        f"{name}_{part}"
        for (kind, name), sql in schema.items()
        if kind == "table" and _FTS.match(sql)
        for part in _FTS_INDEXES
    }
    return sorted(
        name
        for (kind, name), sql in schema.items()
        if kind == "table" and holds_rows(name, sql) and name not in indexes
    )


def describe(connection: sqlite3.Connection, name: str, schema: str = "main") -> Table:
    """Describe one table of `names`."""
    # Hidden is 2 and 3 for generated columns.
    every = connection.execute(
        'SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo(CAST(? AS TEXT), ?)',
        (statements.argument(connection, name), schema),
    ).fetchall()
    key_parts = _primary_index(connection, name, schema)
    without_rowid = bool(key_parts) and all(cid != _ROWID_CID for cid, _, _, _ in key_parts)
    declared = tuple(column for column, _, _, pk, _ in every if pk)
    key: Key | None
    if key_parts:
        in_key = [(column, collation) for _, column, collation, is_key in key_parts if is_key]
        required = {column for column, _, not_null, _, _ in every if not_null}
        columns = tuple(column for column, _ in in_key)
        nullable = not without_rowid and not required.issuperset(columns)
        key = Key(columns, tuple(collation for _, collation in in_key), nullable)
    else:
        key = Key(declared, ("BINARY",)) if declared else None
    integer_key = bool(declared) and not key_parts
    return Table(
        name=name,
        columns=tuple(Column(column, kind) for column, kind, _, _, hidden in every if not hidden),
        key=key,
        rowid=None if without_rowid else _rowid_name([row[0] for row in every], integer_key, key),
        integer_key=integer_key,
    )


def _primary_index(
    connection: sqlite3.Connection, name: str, schema: str
) -> list[tuple[int, str, str, bool]]:
    """Return (column number, name, collation, part of the key) of a primary key's index."""
    return [
        (cid, column, str(collation).upper(), bool(is_key))
        for (index,) in connection.execute(
            "SELECT name FROM pragma_index_list(CAST(? AS TEXT), ?) WHERE origin = 'pk'",
            (statements.argument(connection, name), schema),
        ).fetchall()
        for cid, column, collation, is_key in connection.execute(
            "SELECT cid, name, coll, key FROM pragma_index_xinfo(CAST(? AS TEXT), ?)",
            (statements.argument(connection, index), schema),
        )
    ]


def _rowid_name(columns: list[str], integer_key: bool, key: Key | None) -> str | None:
    taken = {column.lower() for column in columns}
    free = next((name for name in _ROWID_NAMES if name not in taken), None)
    return key.columns[0] if free is None and integer_key and key else free

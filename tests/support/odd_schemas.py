"""Databases whose names and definitions are in no encoding that SQLite knows, or in a broken one.

SQLite takes any bytes for text. Programs that write their own code page (CP949 in Korea, Latin-1 in
western Europe, Shift JIS in Japan) leave such schemas, and so does a name that was cut in the
middle of a letter.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

UTF8 = "UTF-8"
# What stands for a word in each variant, and the encoding of the database.
WORDS: dict[str, tuple[bytes, str]] = {
    "CP949": ("회원".encode("cp949"), UTF8),
    "Latin-1": ("Größe".encode("latin-1"), UTF8),
    "Shift JIS, which has backslashes": ("表ソ".encode("shift-jis"), UTF8),
    "bytes that are no text": (b"\xff\xfe\x80", UTF8),
    "a letter that was cut": ("회원".encode()[:-1], UTF8),
    "half a pair in UTF-8": (b"a\xed\xa0\x80b", UTF8),
    "UTF-16": ("회원".encode("utf-16-le"), "UTF-16le"),
    "UTF-16, high byte first": ("회원 💪".encode("utf-16-be"), "UTF-16be"),
    "half a pair in UTF-16": (b"a\x00\x00\xd8b\x00", "UTF-16le"),
}
# Definitions of ordinary objects; WORD becomes the word of the variant.
_OBJECTS = (
    ("table", "WORD", "WORD", 'CREATE TABLE "WORD" (id INTEGER PRIMARY KEY, "cWORD" TEXT)'),
    ("table", "rows", "rows", "CREATE TABLE rows (a TEXT DEFAULT 'WORD' /* WORD */, b -- WORD\n)"),
    ("table", "iWORD", "iWORD", 'CREATE TABLE "iWORD" (k TEXT PRIMARY KEY, v) WITHOUT ROWID'),
    ("index", "byWORD", "WORD", 'CREATE INDEX "byWORD" ON "WORD" ("cWORD")'),
    ("view", "vWORD", "vWORD", 'CREATE VIEW "vWORD" AS SELECT "cWORD" FROM "WORD"'),
    (
        "trigger",
        "tWORD",
        "rows",
        "CREATE TRIGGER \"tWORD\" AFTER DELETE ON rows BEGIN SELECT 'WORD'; END",
    ),
)
_PLAIN = "plain"
_ENCODINGS = {UTF8: "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


def make(path: Path, variant: str, *, wal: bool = False) -> Path:
    """Make a database with every kind of object, named and defined by a variant of WORDS.

    It is made with plain names, which are then replaced in the schema, as bytes: each table has two
    rows.
    """
    word, encoding = WORDS[variant]

    def spelt(text: str) -> bytes:
        return text.encode(_ENCODINGS[encoding]).replace("WORD".encode(_ENCODINGS[encoding]), word)

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding='{encoding}'")
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        for kind, name, _, sql in _OBJECTS:
            connection.execute(sql.replace("WORD", _PLAIN))
            if kind == "table":
                plain = name.replace("WORD", _PLAIN)
                connection.execute(f"INSERT INTO {plain} VALUES (1, 'one'), (2, 'two')")
        connection.execute("PRAGMA writable_schema=ON")
        for _, name, table, sql in _OBJECTS:
            # A blob that is bound would count as UTF-8, whatever the encoding of the database is.
            name_, table_, sql_ = (
                f"CAST(x'{spelt(text).hex()}' AS TEXT)" for text in (name, table, sql)
            )
            connection.execute(
                f"UPDATE sqlite_master SET name = {name_}, tbl_name = {table_}, sql = {sql_} "
                "WHERE name = ?",
                (name.replace("WORD", _PLAIN),),
            )
    return path

"""What an error of SQLite means: damage, another user's lock, or something that this SQLite lacks.

Only SQLITE_CORRUPT and SQLITE_NOTADB are damage. A function, collation, tokenizer or module of the
application, or syntax of a newer SQLite, is missing here and nothing is wrong with the database.
"""

from __future__ import annotations

import itertools
import re
import sqlite3

# What a statement raises. SQLite quotes what it finds in a schema, and if that is not UTF-8 Python
# fails to decode SQLite's own words. A MemoryError is SQLite's SQLITE_NOMEM.
FAULTS = (sqlite3.Error, UnicodeDecodeError, MemoryError)

DAMAGED = "damaged"
NOT_A_DATABASE = "not a database"
NEWER_SCHEMA = "newer schema"
LOCKED = "locked"
UNKNOWN = "unknown"
UNREAD = "unread"
FAILED = "failed"

# Primary result codes. https://www.sqlite.org/rescode.html
_BY_CODE = {
    1: UNKNOWN,  # SQLITE_ERROR
    5: LOCKED,  # SQLITE_BUSY
    6: LOCKED,  # SQLITE_LOCKED
    11: DAMAGED,  # SQLITE_CORRUPT
    18: UNKNOWN,  # SQLITE_TOOBIG
    23: UNKNOWN,  # SQLITE_AUTH
    26: NOT_A_DATABASE,  # SQLITE_NOTADB
}
# The I/O errors of reading: any, READ, SHORT_READ, DATA, CORRUPTFS. Others are of locks, of writing
# or of the -shm file.
_READING = (10, 266, 522, 8202, 8458)
# Python before 3.11 does not pass the code on, and nowhere when the error is its own.
_BY_TEXT = (
    (re.compile(r"(database|table|schema) is (locked|busy)|database table is locked"), LOCKED),
    (re.compile(r"database disk image is malformed|malformed database schema"), DAMAGED),
    (re.compile(r"fts[345]: corrupt"), DAMAGED),
    (re.compile(r"file is (encrypted or is )?not a database"), NOT_A_DATABASE),
    (re.compile(r"disk I/O error"), UNREAD),
    (
        re.compile(
            r"no such |unknown |unrecognized |unsupported |unsafe use of |wrong number of "
            r"|too many |vtable constructor failed|SQL logic error|near \".*\": syntax error"
            r"|no query solution|.* too big|not authorized|out of memory",
            re.DOTALL,
        ),
        UNKNOWN,
    ),
)

_SCHEMA = re.compile(r"malformed database schema \((?P<name>.*?)\) - (?P<why>.+)", re.DOTALL)
# What SQLite says of a definition that it can read as text and does not understand.
_NOT_UNDERSTOOD = re.compile(
    r"near \"(?P<near>.*)\": syntax error|unknown table option: (?P<option>.+)"
    r"|unrecognized token: \"(\d[\d_.]*|(?P<sign>[\^#:@!]))\"?"
    r"|no such (function|collation sequence|module): .+"
    r"|unknown (function|datatype).*|wrong number of arguments to function .+|too many .+"
    r"|unsafe use of .+|.*(unsupported|not supported|prohibited|may not be used).*",
    re.DOTALL,
)
_DEFINITION = re.compile(
    r"\s*CREATE\s+(TEMP(ORARY)?\s+)?(VIRTUAL\s+)?(UNIQUE\s+)?(TABLE|INDEX|VIEW|TRIGGER)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
# Signs that may be an operator of a newer SQLite, as a wrong letter in a name is not.
_OPERATOR = re.compile(r"(?<=\s)[-+*/%<>=|&~^#:@!?]+(?=\s)|::")
_KEYWORDS = re.findall(
    r"\w+",
    "ACTION AFTER ALWAYS ASC AUTOINCREMENT BEFORE BEGIN BETWEEN CASCADE CASE CAST CHECK "
    "COLLATE CONFLICT CONSTRAINT CREATE CROSS DEFAULT DEFERRABLE DEFERRED DELETE DESC "
    "DISTINCT EACH ELSE END ESCAPE EXCEPT EXISTS FILTER FOREIGN FROM GENERATED GLOB GROUP "
    "HAVING IGNORE IMMEDIATE INDEX INITIALLY INNER INSERT INSTEAD INTERSECT INTO ISNULL JOIN "
    "KEY LEFT LIKE LIMIT MATCH NATURAL NOTNULL NULL OFFSET ORDER OUTER OVER PARTITION PRIMARY "
    "RAISE RECURSIVE REFERENCES REGEXP REPLACE RESTRICT RIGHT ROWID SELECT STORED STRICT "
    "TABLE THEN TRIGGER UNION UNIQUE UPDATE USING VALUES VIEW VIRTUAL WHEN WHERE WINDOW WITH "
    "WITHOUT",
)
_LEAST_LENGTH = 3
# A definition of megabytes may have a million of such words.
_MOST_TRIES = 100
_SYNTAX = re.compile(r"near \".*\": syntax error|unrecognized token|incomplete input", re.DOTALL)


def meaning(error: Exception) -> str:
    """Return the meaning of an sqlite3 error, FAILED if it is none of the others above."""
    text = words(error)
    if "unsupported file format" in text:
        return NOT_A_DATABASE
    found = _by_code(error) or next(
        (kind for pattern, kind in _BY_TEXT if pattern.match(text)), FAILED
    )
    schema = _SCHEMA.fullmatch(text)
    if found == DAMAGED and schema and _is_text(text) and _NOT_UNDERSTOOD.fullmatch(schema["why"]):
        return NEWER_SCHEMA
    return found


def words(error: Exception) -> str:
    """Return SQLite's message; it quotes names that may not be UTF-8."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode("utf-8", "backslashreplace")
    return "out of memory" if isinstance(error, MemoryError) else str(error)


def is_too_big(text: str) -> bool:
    """Return whether these words of SQLite are about a value that it may not, or cannot, hold."""
    return "too big" in text or text == "out of memory"


def _by_code(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    if code in _READING:
        return UNREAD
    return "" if code is None else _BY_CODE.get(code & 0xFF, FAILED)


def unknown_object(error: Exception) -> tuple[str, str]:
    """Return the name in the schema, and what SQLite does not understand in its definition."""
    schema = _SCHEMA.fullmatch(words(error))
    return (schema["name"], schema["why"]) if schema else ("", words(error))


def is_intact(definition: str, why: str) -> bool:
    """Return whether SQL that SQLite does not understand may be newer, not damaged.

    It is text without control characters that begins as a definition does, and does not make sense
    once the word that SQLite stumbles over, or the one before it, has one other letter.
    """
    if not _DEFINITION.match(definition) or not _is_text(definition):
        return False
    found = _NOT_UNDERSTOOD.fullmatch(why)
    if found and found["sign"]:
        return any(found["sign"] in sign for sign in _OPERATOR.findall(definition))
    near = (found["near"] or found["option"] or "") if found else ""
    before = _WORD.findall(definition[: max(0, definition.find(near))])
    return not any(_is_misspelt(word, definition) for word in {near, *before[-1:]})


def _is_text(text: str) -> bool:
    return all(letter.isprintable() or letter in "\t\r\n" for letter in text)


def _is_misspelt(word: str, definition: str) -> bool:
    """Return whether a word of a definition must be a keyword but for one letter.

    Many a name is one letter away from one: a column `cost` is no CAST.
    """
    return any(
        _makes_sense(definition[: at.start()] + keyword + definition[at.end() :])
        for keyword in _alike(word)
        for at in itertools.islice(re.finditer(rf"\b{re.escape(word)}\b", definition), _MOST_TRIES)
    )


def _alike(word: str) -> list[str]:
    """Return the keywords that differ from a word in one letter; none if it is one itself."""
    letters = word.upper()
    if letters in _KEYWORDS or len(letters) <= _LEAST_LENGTH:
        return []
    return [
        keyword
        for keyword in _KEYWORDS
        if len(keyword) == len(letters)
        and sum(keyword[at] != letters[at] for at in range(len(letters))) == 1
    ]


def _makes_sense(definition: str) -> bool:
    """Return whether SQLite can parse a definition, even if it does not know what it refers to."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"EXPLAIN {definition}")
    except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
        return _SYNTAX.match(words(error)) is None
    finally:
        connection.close()
    return True

"""What only the modules of virtual tables can check: full-text indexes and R-trees.

From 3.44 on SQLite's own check asks the modules. Before, that takes a command of each module, and
the command of a full-text index is an INSERT. So it runs in a process that may write to no file,
and in a transaction that is rolled back. Over a damaged index a module may also take very long in
one step, or crash: that ends this process alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import bounded, files
from gymdbd.errors import DestinationError
from gymdbd.source import answers, database
from gymdbd.source.format import HEADER_BYTES, VERSIONS, WITHOUT_WAL, side_files
from gymdbd.source.schema import quote
from gymdbd.sqlite.soundness import Soundness, by_version, is_borrowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ASKED_BY_SQLITE = (3, 44)
_VIRTUAL = re.compile(
    r"CREATE\s+VIRTUAL\s+TABLE\s.*?\sUSING\s+[\"'`\[]?(?P<module>fts[345]|rtree|rtree_i32|geopoly)\b",
    re.IGNORECASE | re.DOTALL,
)
_POLL_S = 0.25
_LEAST_CPU_S = 60
# A Raspberry Pi compares several megabytes of text a second with their index.
_CPU_S_PER_MIB = 2
_MOST_MEMORY_BYTES = 256 * 1024 * 1024


def check(
    connection: sqlite3.Connection, path: Path, cancel: Callable[[], None], *, has_wal: bool = False
) -> Soundness:
    """Let the modules check their tables in the file at `path`, which `connection` has open.

    The file is not written. `cancel` is called every now and then and may raise. What could not be
    checked, or took too long, is `unchecked`. A file that `has_wal` is left to a later check.
    """
    tables = _tables(connection)
    if not tables or sqlite3.sqlite_version_info >= _ASKED_BY_SQLITE:
        return Soundness()
    if has_wal:
        return _left_out(tables, "gymdbd verify checks it")
    try:
        with _writable(path) as file:
            return _in_child(file, tables, cancel)
    except DestinationError as error:
        return _left_out(tables, error.message)


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the module of each table that has one to ask."""
    found = {}
    for name, sql in connection.execute(
        "SELECT CAST(name AS TEXT), CAST(sql AS TEXT) FROM sqlite_master WHERE type = 'table'"
    ):
        virtual = _VIRTUAL.match(sql or "")
        if virtual and not is_borrowed(sql):
            found[name] = virtual["module"].lower()
    return found


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[Path]:
    """Yield a file that SQLite can open for writing without a file beside it: a copy if need be."""
    descriptor = bounded.opened(path)
    try:
        versions = os.read(descriptor, HEADER_BYTES)[VERSIONS]
    finally:
        os.close(descriptor)
    alone = not any(side.exists() for side in side_files(path))
    if versions == WITHOUT_WAL and alone and os.access(path, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="gymdbd-") as folder:
        copy = Path(folder, path.name)
        files.require_space(copy.parent, path.stat().st_size)
        with files.writing(copy):
            files.clone(path, copy)
            with copy.open("r+b") as file:
                file.seek(VERSIONS.start)
                file.write(WITHOUT_WAL)
        yield copy


def _in_child(path: Path, tables: dict[str, str], cancel: Callable[[], None]) -> Soundness:
    seconds = _LEAST_CPU_S + path.stat().st_size * _CPU_S_PER_MIB // 2**20
    order = json.dumps({"path": os.fsencode(path).hex(), "tables": tables, "seconds": seconds})
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "gymdbd.sqlite.modules"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        try:
            answer = _await(child, order, cancel)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        return _left_out(tables, f"its own check ended with {child.returncode}")
    found = json.loads(answer)
    return Soundness(
        problems=tuple(found["problems"]), unchecked=tuple(map(by_version, found["unchecked"]))
    )


def _await(child: subprocess.Popen[str], order: str, cancel: Callable[[], None]) -> str:
    said: str | None = order
    while True:
        cancel()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.communicate(said, timeout=_POLL_S)[0]
        said = None


def _left_out(tables: dict[str, str], why: str) -> Soundness:
    return Soundness(
        unchecked=tuple(by_version(f"virtual table {name} ({why})") for name in tables)
    )


def main() -> None:
    """Check the tables that standard input names; write the result to standard output."""
    order = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (order["seconds"], order["seconds"]))
    # The kernel keeps SQLite from writing whatever a module does; a pipe is no file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    path = Path(os.fsdecode(bytes.fromhex(order["path"])))
    problems, unchecked = [], []
    with contextlib.closing(database.connect(path, "mode=rw", 0.0)) as connection:
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA hard_heap_limit={_MOST_MEMORY_BYTES}")
        for name, module in order["tables"].items():
            try:
                problems.extend(_ask(connection, name, module))
            except answers.FAULTS as error:
                said = answers.words(error)
                if answers.meaning(error) == answers.DAMAGED:
                    problems.append(f"the index of virtual table {name} is wrong ({said})")
                else:
                    unchecked.append(f"virtual table {name} ({said})")
            except UnicodeEncodeError:
                unchecked.append(f"virtual table {name} (its name is not UTF-8)")
    json.dump({"problems": problems, "unchecked": unchecked}, sys.stdout)


def _ask(connection: sqlite3.Connection, name: str, module: str) -> list[str]:
    """Ask a module whether a table of it is sound; return what is wrong."""
    if not module.startswith("fts"):
        (answer,) = connection.execute("SELECT rtreecheck('main', ?)", (name,)).fetchone()
        return [f"R-tree {name}: {line}" for line in answer.splitlines() if line != "ok"]
    connection.execute("BEGIN")
    try:
        table = quote(name)
        connection.execute(f"INSERT INTO {table}({table}) VALUES ('integrity-check')")  # noqa: S608 - quoted
    finally:
        connection.execute("ROLLBACK")
    return []


if __name__ == "__main__":
    main()

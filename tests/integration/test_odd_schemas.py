"""Every verb works on names and definitions in whatever encoding somebody wrote them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import samples
from tests.support.command import gymdbd, gymdbd_json
from tests.support.databases import backups
from tests.support.jobs import write_config
from tests.support.odd_schemas import WORDS, make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pulling import Peer

_OTHERS = sorted(WORDS.keys() - {"CP949"})


def _ok(*words: object) -> dict[str, Any]:
    code, told = gymdbd_json(*words)
    assert code == 0, (words, told)
    return told


def _scene(tmp_path: Path, variant: str) -> tuple[Path, Path, Path]:
    """Return a database of a variant, its archive and a configuration that backs it up."""
    database, archive = make(tmp_path / "app.db", variant, wal=True), tmp_path / "archive"
    archive.mkdir(mode=0o700)
    job = {"database": str(database), "archive": str(archive), "every": "1h"}
    return database, archive, write_config(tmp_path, {"nightly": job})


def _dump(path: Path) -> list[tuple[object, ...]]:
    """Return the schema and the rows that the database itself counts, as bytes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        assert connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
        return [
            *connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name"),
            *connection.execute("SELECT a, b FROM rows ORDER BY a"),
        ]


@pytest.mark.parametrize("variant", ["CP949", *samples.sample(_OTHERS, "odd schemas")])
def test_a_database_with_such_a_schema_is_backed_up_looked_at_and_put_back(
    tmp_path: Path, variant: str
) -> None:
    """Its manifest is JSON that any program reads; what is restored has each byte of the schema."""
    database, archive, config = _scene(tmp_path, variant)
    before = _dump(database)
    assert gymdbd("-c", config, "check").returncode == 0
    tables = _ok("-c", config, "backup")["tables"]
    assert sorted(tables.values()) == [2, 2, 2]
    (made,) = backups(archive)
    assert json.loads(made.with_name(made.name + ".json").read_text("utf-8"))["tables"] == tables
    with closing(sqlite3.connect(database)) as app, app:
        app.execute("UPDATE rows SET b = 'changed' WHERE a = '1'")
    assert _ok("-c", config, "backup")["changes"]["tables"]["rows"]["changed"] == 1
    assert _ok("-c", config, "status")["jobs"]["nightly"]["health"] == "ok"
    verdicts = [one["verdict"] for one in _ok("-c", config, "list")["backups"]]
    assert verdicts == ["verified", "verified"]
    assert [one["problems"] for one in _ok("verify", "--all", "--archive", archive)["backups"]] == [
        [],
        [],
    ]
    assert _ok("drill", "--archive", archive)["tables"] == tables
    assert _ok("diff", made, "--database", database)["tables"].keys() <= tables.keys()
    assert _ok("restore", made, "--to", tmp_path / "new.db")["tables"] == tables
    assert _dump(tmp_path / "new.db") == before
    assert _ok("restore", made, "--to", database)["tables"] == tables
    assert _dump(database) == before


@pytest.mark.parametrize("variant", samples.sample(sorted(WORDS), "odd rescues"))
def test_its_rows_are_rescued_in_every_form(tmp_path: Path, variant: str) -> None:
    """Each table by its name, as statements, as CSV and as a database; the statements run."""
    database, archive, config = _scene(tmp_path, variant)
    tables = _ok("-c", config, "backup")["tables"]
    (made,) = backups(archive)
    for number, name in enumerate(tables):
        assert _ok("diff", made, "--database", database, "--rows", name)["rows"] == []
        for form in ("sql", "csv", "db"):
            out = tmp_path / f"{number}.{form}"
            done = gymdbd("rescue", made, "--table", name, "--as", form, "--to", out)
            assert done.returncode == 0, done.stderr
            assert out.stat().st_size > 0
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as rescued:
            assert rescued.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rescued.text_factory = bytes
            (table,) = rescued.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            assert table[0].decode("utf-8", "surrogateescape") == name


@pytest.mark.parametrize(
    ("method", "variant"),
    [
        ("scp", "CP949"),
        *(("scp", variant) for variant in samples.sample(_OTHERS, "odd scp", size=0)),
        *(("query", variant) for variant in samples.sample(sorted(WORDS), "odd query")),
    ],
)
def test_it_is_pulled_by_either_method(peer: Peer, method: str, variant: str) -> None:
    """The replica has each byte of the schema; what is asked before the pull is told."""
    peer.database.unlink()
    before = _dump(make(peer.database, variant, wal=True))
    config = peer.config(method=method)
    assert gymdbd("-c", config, "check").returncode == 0
    if method == "query":
        assert len(_ok("-c", config, "pull", "--info-only")["tables"]) == 3
    assert sorted(_ok("-c", config, "pull")["tables"].values()) == [2, 2, 2]
    assert _dump(peer.replica) == before

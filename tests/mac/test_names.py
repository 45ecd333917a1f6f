"""Names that come back taken apart (NFD) or in another case, and files that macOS itself leaves."""

from __future__ import annotations

import socket
import sqlite3
import unicodedata
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs.backup import backup
from gymdbd.origin import Place, here
from tests.support.archives import CREATED, add_backup
from tests.support.databases import backups, make_database, tree
from tests.support.jobs import backup_job, context
from tests.support.mac import mac_json

_HANGUL = "회원.db"
_APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + b"\0" * 4070


def _backed_up(database: Path, archive: Path) -> dict[str, Any]:
    """Back up as on a Mac whose share takes names apart; return what is told."""
    keep = ("--cleanup", "--keep-days", "0", "--keep-count", "2")
    words = ("backup", "--database", database, "--archive", archive, *keep)
    return mac_json(*words, DARWIN_NAMES="decomposed")[1]


def test_backups_of_a_hangul_database_are_known_where_names_come_back_apart(tmp_path: Path) -> None:
    """Retention removes the third, `latest` finds one, and a table that is empty is noticed."""
    archive, database = tmp_path / "archive", make_database(tmp_path / _HANGUL)
    archive.mkdir()
    told = [_backed_up(database, archive) for _ in range(3)]
    assert [one["state"] for one in told] == ["ok"] * 3
    assert told[2]["changes"] is not None
    assert len(backups(archive)) == 2
    words = ("verify", "latest", "--archive", archive)
    assert mac_json(*words, DARWIN_NAMES="decomposed")[0] == 0
    with closing(sqlite3.connect(database, isolation_level=None)) as application:
        application.execute("DELETE FROM t")
    assert _backed_up(database, archive)["state"] == "suspicious"


def test_an_archive_that_came_from_a_mac_is_that_of_the_same_database(tmp_path: Path) -> None:
    """It was copied with the names that HFS+ had; here, both forms are names of their own."""
    archive, database = tmp_path / "archive", make_database(tmp_path / _HANGUL)
    archive.mkdir()
    made = Path(backup.run(backup_job(database, archive), context()).path)
    for path in list(archive.iterdir()):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    catalog = Catalog(archive, UTC)
    assert len(catalog.backups(here(database))) == 1
    assert catalog.find("latest", here(database)).good
    assert catalog.find(made.name).good


def test_a_name_that_differs_in_case_is_not_used_twice(tmp_path: Path) -> None:
    """Two jobs share an archive on a volume that does not tell Gym from gym."""
    catalog = Catalog(tmp_path, UTC)
    first = add_backup(catalog.name("gym", CREATED))
    second = catalog.name("Gym", CREATED)
    assert first.name.casefold() != second.name.casefold()
    assert second.name == "Gym_backup_20261123_030000-2.db"


def test_a_path_in_another_case_is_the_same_place_if_it_leads_to_the_same_file(
    tmp_path: Path,
) -> None:
    """Hard links play the two names that one file has on such a volume."""
    file = make_database(tmp_path / "gym.db")
    (tmp_path / "Gym.db").hardlink_to(file)
    make_database(tmp_path / "GYM.db")
    host = socket.gethostname()
    small, large, other = (
        Place(host, str(tmp_path / f"{word}.db")) for word in ("gym", "Gym", "GYM")
    )
    assert small.same(large)
    assert not small.same(other)


def test_paths_on_another_machine_are_compared_in_one_form() -> None:
    """One was typed, the other completed by a shell on a Mac."""
    typed = Place("pi", "/srv/회원.db")
    assert typed.same(Place("pi", unicodedata.normalize("NFD", typed.path)))


def test_what_macos_leaves_beside_files_is_nothing_of_ours(tmp_path: Path) -> None:
    """Neither a backup nor a leftover: it stays, and nobody waits for it or calls it damaged."""
    archive, database = tmp_path / "archive", make_database(tmp_path / "gym.db")
    archive.mkdir()
    made = Path(backup.run(backup_job(database, archive), context()).path)
    for path in (made, manifests.manifest_path(made), archive / ".gym.db.partial"):
        path.with_name(f"._{path.name}").write_bytes(_APPLE_DOUBLE)
    (archive / ".DS_Store").write_bytes(b"Bud1")
    for name in (".Trashes", ".fseventsd", ".Spotlight-V100"):
        (archive / name).mkdir()
    before = tree(archive)
    catalog = Catalog(archive, UTC)
    assert [found.path for found in catalog.backups()] == [made]
    assert catalog.sweep() == []
    assert tree(archive) == before

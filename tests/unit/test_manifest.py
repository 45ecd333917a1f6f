"""The manifest beside a backup: it says just what was written, or that it is damaged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.archive import manifest as manifests
from gymdbd.archive import sealed
from gymdbd.errors import FormatError
from tests.support.archives import manifest

if TYPE_CHECKING:
    from pathlib import Path

_ODD_NAMES = ("회원", "a b", 'quo"te', "it's", "back\\slash", "새 표\n", "\x00\x1f", "\udcff\ud800")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Give the path of a backup and the bytes of its manifest, which names odd tables."""
    backup = tmp_path_factory.mktemp("archive") / "gym_backup_20261123_030000.db"
    manifests.write(_odd_manifest(), backup)
    return backup, manifests.manifest_path(backup).read_bytes()


def _odd_manifest() -> manifests.Manifest:
    return manifest(tables={name: rows for rows, name in enumerate(_ODD_NAMES)})


def _put(backup: Path, content: dict[str, Any]) -> None:
    """Write a manifest of any content with the right checksum."""
    sealed.write(manifests.manifest_path(backup), content)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Every field survives, the nested ones too."""
    original = manifest(
        checkpoint={"mode": "truncate", "busy": 0, "blocked_by": []},
        side_files={"-wal": {"size": 4152, "md5": "1" * 32, "sha256": "1" * 64}},
    )
    manifests.write(original, tmp_path / "a.db")
    assert manifests.read(tmp_path / "a.db") == original


@given(names=st.lists(st.text(st.characters(codec=None)), max_size=5))
def test_a_table_of_any_name_survives(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    """A name is any text, lone surrogates (bytes that are no UTF-8) included."""
    backup = tmp_path_factory.getbasetemp() / "any-name.db"
    original = manifest(tables=dict.fromkeys([*names, *_ODD_NAMES], 1))
    manifests.write(original, backup)
    assert manifests.read(backup) == original


def test_the_text_of_a_manifest_can_be_read_by_people(tmp_path: Path) -> None:
    """Hangul is written as it is, not as escapes."""
    manifests.write(manifest(tables={"회원": 1}), tmp_path / "a.db")
    assert '"회원": 1' in manifests.manifest_path(tmp_path / "a.db").read_text(encoding="utf-8")


def test_the_instant_of_the_snapshot_is_aware_and_in_utc() -> None:
    """The manifest has the local offset, whoever compares wants UTC."""
    local = manifest(created_at="2026-11-23T12:00:00+09:00")
    assert local.created == datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert local.created.tzinfo is UTC


def test_a_missing_manifest_is_none(tmp_path: Path) -> None:
    """A backup of the older scripts has none, and that is no error."""
    assert manifests.read(tmp_path / "gym_backup_20261123_030000.db") is None


@given(data=st.data())
def test_any_flipped_bit_is_noticed(written: tuple[Path, bytes], data: st.DataObject) -> None:
    """Wherever in the file it is."""
    backup, good = written
    position = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    manifests.manifest_path(backup).write_bytes(flipped)
    with pytest.raises(FormatError, match="cannot be used"):
        manifests.read(backup)


@given(data=st.data())
def test_any_changed_byte_is_noticed(written: tuple[Path, bytes], data: st.DataObject) -> None:
    """Also one that says the same to JSON: a space for a line break, an escape in capitals."""
    backup, good = written
    changed = bytearray(good)
    position = data.draw(st.integers(0, len(good) - 1))
    changed[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[position]))
    manifests.manifest_path(backup).write_bytes(changed)
    with pytest.raises(FormatError):
        manifests.read(backup)


def test_an_escape_in_capitals_is_noticed(tmp_path: Path) -> None:
    """It is one flipped bit, and means the same."""
    manifests.write(manifest(tables={"\x1f": 1}), tmp_path / "a.db")
    path = manifests.manifest_path(tmp_path / "a.db")
    path.write_bytes(path.read_bytes().replace(b"\\u001f", b"\\u001F"))
    with pytest.raises(FormatError, match="its bytes have been changed"):
        manifests.read(tmp_path / "a.db")


@given(data=st.data())
def test_a_cut_manifest_is_noticed(written: tuple[Path, bytes], data: st.DataObject) -> None:
    """Even the line break at the very end is missed."""
    backup, good = written
    manifests.manifest_path(backup).write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(FormatError):
        manifests.read(backup)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", '"text"', "{}", "[" * 100_000, '{"checksum": "x"}', "\xff"]
)
def test_something_else_under_the_name_of_a_manifest_is_a_format_error(
    tmp_path: Path, text: str
) -> None:
    """Whatever lies there, the error says which file and what the backup is worth now."""
    path = manifests.manifest_path(tmp_path / "a.db")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"a\.db\.json cannot be used") as caught:
        manifests.read(tmp_path / "a.db")
    assert "unverified" in caught.value.hint


def test_a_folder_under_the_name_of_a_manifest_is_a_format_error(tmp_path: Path) -> None:
    """What the operating system refuses to read is damaged, not missing."""
    manifests.manifest_path(tmp_path / "a.db").mkdir()
    with pytest.raises(FormatError):
        manifests.read(tmp_path / "a.db")


def test_a_manifest_of_a_later_schema_is_refused_by_its_number(tmp_path: Path) -> None:
    """It is not taken for damaged, and not read as if it were known."""
    manifests.write(manifest(schema=2), tmp_path / "a.db")
    with pytest.raises(FormatError, match="its schema is 2, this release knows 1"):
        manifests.read(tmp_path / "a.db")


def test_a_field_that_a_later_release_adds_is_no_harm(tmp_path: Path) -> None:
    """Within one schema a manifest may say more than is known here."""
    _put(tmp_path / "a.db", {**vars(manifest()), "verified_at": "2026-11-24T03:00:00+00:00"})
    assert manifests.read(tmp_path / "a.db") == manifest()


@pytest.mark.parametrize("field", ["source", "created_at", "size", "tables", "schema"])
def test_a_manifest_that_lacks_a_field_is_refused(tmp_path: Path, field: str) -> None:
    """A right checksum does not make up for it."""
    _put(tmp_path / "a.db", {name: one for name, one in vars(manifest()).items() if name != field})
    with pytest.raises(FormatError):
        manifests.read(tmp_path / "a.db")


@pytest.mark.parametrize(
    "moment", ["yesterday", "2026-11-23T03:00:00", "0001-01-01T00:00:00+09:00", 3, None]
)
def test_a_manifest_whose_instant_is_none_is_refused(tmp_path: Path, moment: object) -> None:
    """Words, a time without an offset, and one before the calendar begins."""
    _put(tmp_path / "a.db", {**vars(manifest()), "created_at": moment})
    with pytest.raises(FormatError):
        manifests.read(tmp_path / "a.db")


def test_writing_replaces_the_manifest_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """The second one is all there is, readable by its owner only."""
    backup = tmp_path / "a.db"
    manifests.write(manifest(user_version=1), backup)
    manifests.write(manifest(user_version=2), backup)
    assert manifests.read(backup) == manifest(user_version=2)
    assert [one.name for one in tmp_path.iterdir()] == ["a.db.json"]
    assert (tmp_path / "a.db.json").stat().st_mode & 0o777 == 0o600

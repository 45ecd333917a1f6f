"""The index of an archive: with it, every answer is the one that there is without it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gymdbd.archive import index, manifest, marks
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import BackupMissingError
from tests.support import samples
from tests.support.archives import CREATED, add_backup, fill, index_all
from tests.support.command import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# More than are read at each look.
_MANY = 36
_LOOK = (
    "import sys\n"
    "from datetime import UTC\n"
    "from pathlib import Path\n"
    "from gymdbd.archive.catalog import Catalog\n"
    "print(len(Catalog(Path(sys.argv[1]), UTC).backups()))\n"
)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an archive with an index that knows all of it; no test changes it."""
    folder = tmp_path_factory.mktemp("indexed")
    made = fill(folder, _MANY)
    marks.change(made[0], kept_at=CREATED.isoformat(), note="for ever")
    marks.change(made[1], problems=["rotten"], verified_at=CREATED.isoformat())
    index_all(folder)
    return folder


@pytest.fixture
def archive(indexed: Path, tmp_path: Path) -> Path:
    """Give an archive with an index that knows all of it."""
    folder = tmp_path / "archive"
    shutil.copytree(indexed, folder)
    # The copies are other files, so that the index knows none of them any more.
    index_all(folder)
    return folder


def _answers(folder: Path) -> list[tuple[Any, ...]]:
    """Return what a list of the archive says."""
    return [
        (
            *(backup.path, backup.created, backup.again, backup.stem, backup.size, backup.verdict),
            *(backup.place, backup.former_places, backup.verified_at, backup.facts, backup.waits),
            *(backup.note, backup.unknown, backup.side_files, backup.marks, backup.is_damaged),
            *(backup.good, backup.manifest),
        )
        for backup in Catalog(folder, UTC).backups()
    ]


def _answers_without(folder: Path) -> list[tuple[Any, ...]]:
    """Return what a list says without the index, and put the index back as it is."""
    saved = folder.parent / "saved.index"
    there = (folder / index.NAME).exists()
    if there:
        (folder / index.NAME).rename(saved)
    try:
        return _answers(folder)
    finally:
        if there:
            saved.replace(folder / index.NAME)
        else:
            (folder / index.NAME).unlink(missing_ok=True)


def _knows(folder: Path, path: Path) -> bool:
    return index.load(folder).row(path.name, path.lstat()) is not None


def test_what_the_index_knows_is_what_the_manifests_and_marks_say(archive: Path) -> None:
    """Pins and problems among it; the file is for its owner only."""
    assert _answers(archive) == _answers_without(archive)
    pinned, damaged = _answers(archive)[-1], _answers(archive)[-2]
    assert (pinned[5], damaged[5]) == ("verified", "damaged")
    assert (archive / index.NAME).stat().st_mode & 0o777 == 0o600


def test_a_manifest_is_read_once(archive: Path) -> None:
    """What the index knows is not opened: not even if its bytes are no manifest any more."""
    path = manifest.manifest_path(Catalog(archive, UTC).backups()[5].path)
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=open,openat", sys.executable, "-c", _LOOK, str(archive)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(_MANY)
    opened = [line for line in done.stderr.splitlines() if str(archive) in line]
    assert [line for line in opened if path.name in line or ".json" in line] == []
    assert len(opened) == 2  # The folder, and the index.


@pytest.mark.parametrize("verb", ["status", "backup", "restore"])
def test_a_command_looks_at_an_archive_once(archive: Path, tmp_path: Path, verb: str) -> None:
    """Each look costs what the archive holds: of thousands, a tenth of a second."""
    database, file = tmp_path / "gym.db", tmp_path / "gymdbd.yaml"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE guests (name)")
    job = {"kind": "backup", "database": str(database), "archive": str(archive)}
    told = {"jobs": {"gym": {**job, "schedule": "0 3 * * *"}}}
    file.write_text(json.dumps({"status_file": str(tmp_path / "status.json"), **told}))
    command = [sys.executable, "-m", "gymdbd", "-c", str(file), "backup"]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    words = ["restore", "latest", "--to", str(tmp_path / "r.db")] if verb == "restore" else [verb]
    traced = ["strace", "-f", "-e", "trace=open,openat", *command[:-1], *words]
    done = subprocess.run(traced, env=environment(), capture_output=True, text=True, check=False)
    assert done.stderr.count(f'/{index.NAME}"') == 1


def test_a_small_archive_has_no_index(tmp_path: Path) -> None:
    """Reading a few manifests costs less than it."""
    fill(tmp_path, 32)
    assert len(Catalog(tmp_path, UTC).backups()) == 32
    assert not (tmp_path / index.NAME).exists()


def _rewrite(path: Path) -> None:
    """Write as many other bytes into the same file."""
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b'"/srv/gym.db"', b'"/srv/GYM.db"'))


def _rewrite_as_if_never(path: Path) -> None:
    """Do so, and give the file its old times again."""
    before = path.stat()
    _rewrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    """Rename another file of the same size and times into its place."""
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes().replace(b'"/srv/gym.db"', b'"/srv/GYM.db"'))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


def _lengthen(path: Path) -> None:
    """Append to it, and give it its old times again."""
    before = path.stat()
    with path.open("ab") as file:
        file.write(b" ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [_rewrite, _rewrite_as_if_never, _replace, _lengthen])
def test_a_manifest_that_was_changed_by_hand_is_read_again(
    archive: Path, change: Callable[[Path], None]
) -> None:
    """In place or by another file, whatever its size and times are then."""
    path = manifest.manifest_path(Catalog(archive, UTC).backups()[7].path)
    change(path)
    assert not _knows(archive, path)
    assert _answers(archive) == _answers_without(archive)
    assert _answers(archive)[7][5] == "unverified"


def _entry(**other: int) -> tuple[dict[str, Any], os.stat_result]:
    """Return the content of an index of one manifest, and the status that its file has now."""
    of = {"inode": 5, "size": 900, "mtime": 10_000_000_001, "ctime": 10_000_000_001}
    row = ["a.json", *of.values(), index.instant(CREATED), 0, 0, 8192, 344, 16]
    content = {
        "places": [["h", "/p", []]],
        "manifests": [[value] for value in row],
        "marks": [[] for _ in range(6)],
        "took_ns": 0,
    }
    now = of | other
    status = [0o100600, now["inode"], 0, 1, 0, 0, now["size"], 0, 0, 0]
    times = {"st_mtime_ns": now["mtime"], "st_ctime_ns": now["ctime"]}
    return content, os.stat_result([*status], times)


@pytest.mark.parametrize("what", ["inode", "size", "mtime", "ctime"])
def test_each_part_of_the_status_counts(what: str) -> None:
    """If only one of them differs, the manifest is read."""
    content, same = _entry()
    assert index.Index(content, 20_000_000_000).row("a.json", same) is not None
    for other in (1, 10_000_000_000, 10_000_000_002):
        content, now = _entry(**{what: other})
        assert index.Index(content, 20_000_000_000).row("a.json", now) is None


@pytest.mark.parametrize(
    ("written", "took", "times", "known"),
    [
        (10.05, 0, 10.000000001, False),
        (10.5, 0, 10.000000001, True),
        (10.5, 0.45, 10.000000001, False),
        (11.5, 0, 10, False),
        (12.5, 0, 10, True),
        (9.0, 0, 10.000000001, False),
    ],
)
def test_a_manifest_as_young_as_the_index_is_read_again(
    written: float, took: float, times: float, *, known: bool
) -> None:
    """It may have been written again in the same tick; whole seconds are FAT's, of two seconds.

    Reading took its time as well. If the clock was set back, all manifests are younger than it.
    """
    second = 1_000_000_000
    moment = int(times * second)
    content, _ = _entry()
    content["manifests"][3:5] = [[moment], [moment]]
    content["took_ns"] = int(took * second)
    _, now = _entry(mtime=moment, ctime=moment)
    found = index.Index(content, int(written * second)).row("a.json", now)
    assert (found is not None) == known


@pytest.mark.parametrize(("young", "column"), [("mtime", 3), ("ctime", 4)])
def test_the_younger_of_the_two_times_of_a_manifest_counts(young: str, column: int) -> None:
    """Either of them may be set back, or be that of a copy."""
    content, _ = _entry()
    moment = 19_990_000_001
    content["manifests"][column] = [moment]
    _, now = _entry(**{young: moment})
    assert index.Index(content, 20_200_000_000).row("a.json", now) is not None
    assert index.Index(content, 20_000_000_000).row("a.json", now) is None


def test_an_index_counts_for_root_if_it_is_of_who_owns_the_archive(archive: Path) -> None:
    """Root looks into the archives of others as fast as into its own."""
    path = manifest.manifest_path(Catalog(archive, UTC).backups()[0].path)
    for owned in (archive, archive / index.NAME):
        os.chown(owned, 12345, -1)
    assert _knows(archive, path)


def test_marks_count_as_soon_as_they_are_made_changed_or_removed(archive: Path) -> None:
    """A pin that is not seen would let pruning remove what is pinned."""
    backup = Catalog(archive, UTC).backups()[3]
    for kept_at in (CREATED.isoformat(), None, CREATED.isoformat()):
        marks.change(backup.path, kept_at=kept_at)
        assert Catalog(archive, UTC).backups()[3].marks.kept_at == kept_at
        index_all(archive)
    marks.marks_path(backup.path).unlink()
    assert Catalog(archive, UTC).backups()[3].marks.kept_at is None


def test_the_index_of_another_archive_says_nothing(archive: Path, tmp_path: Path) -> None:
    """With the same names, sizes and times in it, too: they are other files."""
    other = tmp_path / "other"
    shutil.copytree(archive, other)
    for path in other.glob("*.json"):
        before = path.stat()
        _rewrite(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _answers(other) == _answers_without(other)


def _contents() -> st.SearchStrategy[Any]:
    """Return JSON that may be taken for the content of an index."""
    odd = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just("/a\0b")
    row: st.SearchStrategy[Any] = st.lists(odd | st.just([]) | st.just({}), max_size=12)
    good = ["x.json", 1, 2, 3, 4, index.instant(CREATED), 0, 0, 8192, 1, 16]
    rows = st.lists(
        row | st.just(good) | st.just([*good[:5], 1 << 60, 0, 7, 1, 1, 99]), max_size=3
    ).map(lambda found: [list(column) for column in zip(*found, strict=False)])
    places = st.lists(st.tuples(odd, odd, odd | st.lists(odd, max_size=2)), max_size=2)
    table = {"places": places | odd, "manifests": rows | odd, "marks": rows | odd, "took_ns": odd}
    return odd | st.fixed_dictionaries({}, optional=table)


@settings(
    max_examples=samples.count(150, of=3000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=_contents())
def test_an_index_of_anything_else_is_none(indexed: Path, content: Any) -> None:
    """Though its head and its sum are right."""
    body = json.dumps(content).encode()
    path = indexed.parent / "odd"
    path.mkdir(exist_ok=True)
    (path / index.NAME).write_bytes(b"gymdbd index 1 %08x\n" % zlib.crc32(body) + body)
    (path / index.NAME).chmod(0o600)
    found = index.load(path)
    status = os.stat_result([0, 1, 0, 1, 0, 0, 2, 0, 0, 0], {"st_mtime_ns": 3, "st_ctime_ns": 4})
    for name in ("x.json", "a.json"):
        found.row(name, status)
        found.marks(name, status)


@pytest.mark.parametrize("column", range(11))
@pytest.mark.parametrize("odd", [None, True, 1.5, "x", 7, []])
def test_a_value_of_another_type_makes_an_index_none(column: int, odd: object) -> None:
    """A size that is a text would stop a list, long after the index was read."""
    content, _ = _entry()
    if type(odd) is type(content["manifests"][column][0]):
        return
    content["manifests"][column][0] = odd
    with pytest.raises((TypeError, ValueError)):
        index.Index(content)


@pytest.mark.parametrize(
    ("column", "odd"),
    [(5, 1 << 60), (5, -(1 << 60)), (6, 86_400), (6, -86_400), (7, 1), (7, -1), (10, 32), (10, -1)],
)
def test_a_number_that_no_manifest_leads_to_makes_an_index_none(column: int, odd: int) -> None:
    """A time outside the calendar, an offset of a day, or a place that is not there."""
    content, _ = _entry()
    content["manifests"][column] = [odd]
    with pytest.raises(ValueError, match="outside its bounds"):
        index.Index(content)


@pytest.mark.parametrize(
    ("time", "is_kept"),
    [
        ("2026-11-20T03:00:00+09:00", True),
        ("2026-11-20T03:00:00.000001-03:30", True),
        *(("2026-11-20T03:00:00Z", False), ("2026-11-20 03:00:00+00:00", False)),
        *(("9999-12-31T00:00:00+00:00", False), ("0001-01-01T00:00:00+00:00", False)),
    ],
)
def test_a_time_is_kept_if_it_comes_back_letter_by_letter(
    tmp_path: Path, time: str, *, is_kept: bool
) -> None:
    """Any other is read from its manifest at every look, and the answer is the same."""
    content, status = _entry()
    facts = index.Index(content).facts(index.Index(content, 1 << 62).row("a.json", status) or ())
    created = datetime.fromisoformat(time).astimezone(UTC)
    told = facts._replace(created_at=time, created=created)
    index.store(tmp_path, {"a.json": (index.stamp_of(status), told)}, {}, 0)
    known = index.load(tmp_path)
    row = known.row("a.json", status)
    assert (row is not None) == is_kept
    if row is not None:
        assert known.facts(row) == told


def test_whatever_byte_is_flipped_there_is_no_index(archive: Path) -> None:
    """The answers stay, and the next look makes a new one."""
    path = archive / index.NAME
    whole = path.read_bytes()
    right = _answers_without(archive)
    for at in {0, 14, 22, 23, len(whole) - 1, *range(0, len(whole), len(whole) // 40)}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        known = index.load(archive)
        assert not any(known.row(file.name, file.lstat()) for file in archive.glob("*.db.json"))
        assert _answers(archive) == right


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _link_hard(path: Path) -> None:
    path.with_name("elsewhere").hardlink_to(path)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _give_away(path: Path) -> None:
    os.chown(path, 12345, -1)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_link, _link_hard, _pipe, _give_away, Path.unlink),
        *(lambda path, mode=mode: path.chmod(mode) for mode in (0o620, 0o602)),
    ],
)
def test_an_index_that_others_may_have_written_is_none(
    archive: Path, spoil: Callable[[Path], None]
) -> None:
    """They may be able to make a file in the archive, and yet not to change its manifests."""
    path = manifest.manifest_path(Catalog(archive, UTC).backups()[0].path)
    right = _answers_without(archive)
    assert _knows(archive, path)
    spoil(archive / index.NAME)
    assert not _knows(archive, path)
    assert _answers(archive) == right


@pytest.fixture
def for_all() -> Iterator[Path]:
    """Give a folder that every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _look_as_another_user(folder: Path) -> int:
    """Return how many backups a user sees who is neither root nor the owner of an archive."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writer, b"%d" % len(Catalog(folder, UTC).backups()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        seen = int(answer.read() or -1)
    os.waitpid(child, 0)
    return seen


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_who_looks_into_an_archive_of_others_leaves_nothing_there(for_all: Path, mode: int) -> None:
    """A file of theirs would be no index for its owner; they get the same answers without one."""
    for path in fill(for_all, _MANY):
        manifest.manifest_path(path).chmod(0o644)
    before = sorted(for_all.iterdir())
    for_all.chmod(mode)
    assert _look_as_another_user(for_all) == _MANY
    assert sorted(for_all.iterdir()) == before


def test_many_may_look_at_once(tmp_path: Path) -> None:
    """Each writes the index; all get the same answer, and nothing but the index is left."""
    fill(tmp_path, _MANY)
    looking = [
        subprocess.Popen(
            [sys.executable, "-c", _LOOK, str(tmp_path)],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert {process.communicate()[0].strip() for process in looking} == {str(_MANY)}
    hidden = [path.name for path in tmp_path.glob(".*")]
    assert hidden == [index.NAME]
    index_all(tmp_path)


_NUMBER = st.integers(0, _MANY + 5)


class _SameAnswers(RuleBasedStateMachine):
    """Whatever happens to an archive, by gymdbd or by hand: the index changes no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.archive = self.folder / "archive"
        self.archive.mkdir()
        self.others: list[bytes] = []

    @initialize()
    def begin(self) -> None:
        """Begin with an archive that has an index."""
        fill(self.archive, _MANY)
        Catalog(self.archive, UTC).backups()

    def _any(self, number: int) -> Path:
        paths = sorted(self.archive.glob("*_backup_*.db"))
        return paths[number % len(paths)] if paths else self.archive / "none"

    @rule(hour=st.integers(0, 2000), verified=st.booleans(), suspicious=st.booleans())
    def add(self, hour: int, *, verified: bool, suspicious: bool) -> None:
        """Make a backup, or one more of a name that there is."""
        created = CREATED + timedelta(minutes=hour)
        path = self.archive / f"gym_backup_{created:%Y%m%d_%H%M%S}.db"
        told = {"created_at": created.isoformat(), "suspicious": ["it shrank"] * suspicious}
        add_backup(path, verified=verified, **told)

    @rule(number=_NUMBER)
    def remove(self, number: int) -> None:
        """Prune a backup."""
        with contextlib.suppress(BackupMissingError):
            catalog = Catalog(self.archive, UTC)
            catalog.remove(catalog.read(self._any(number).name))

    @rule(number=_NUMBER, kind=st.sampled_from(["kept_at", "accepted_at", "rejected_at"]))
    def mark(self, number: int, kind: str) -> None:
        """Mark a backup, as a person or a verification does."""
        if (path := self._any(number)).exists():
            marks.change(path, **{kind: CREATED.isoformat()})

    @rule(number=_NUMBER, end=st.sampled_from(["", ".json", ".marks.json"]), how=st.integers(0, 6))
    def by_hand(self, number: int, end: str, how: int) -> None:
        """Change, remove, replace or rename a file as nobody should."""
        path = self._any(number)
        path = path.with_name(path.name + end)
        if not path.exists():
            return
        other = self._any(number + 1)
        other = other.with_name(other.name + end)
        change: list[Callable[[], object]] = [
            lambda: _rewrite_as_if_never(path),
            lambda: _replace(path),
            lambda: _lengthen(path),
            path.unlink,
            lambda: os.truncate(path, 100),
            lambda: shutil.copy2(other, path) if other.exists() and other != path else None,
            lambda: path.rename(path.with_name(f"gym_backup_20270101_0{number:05}.db{end}")),
        ]
        change[how]()

    @rule(at=st.integers(0, 100))
    def spoil_the_index(self, at: int) -> None:
        """Flip a byte of it, or bring an older one back."""
        path = self.archive / index.NAME
        if path.exists():
            data = path.read_bytes()
            self.others.append(data)
            half = data[: len(data) * at // 100]
            path.write_bytes(self.others[at % len(self.others)] if at % 2 else half)

    @rule()
    def look(self) -> None:
        """Look at the archive, which may write the index."""
        Catalog(self.archive, UTC).backups()

    @rule()
    def know_all(self) -> None:
        """Let the index know all that can be known."""
        (self.archive / index.NAME).unlink(missing_ok=True)
        Catalog(self.archive, UTC).backups()

    @invariant()
    def answers_are_the_same(self) -> None:
        """Also those that the archive gives to nobody who asks for one backup."""
        assert _answers(self.archive) == _answers_without(self.archive)

    def teardown(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder)


_SameAnswers.TestCase.settings = settings(
    max_examples=samples.count(4, of=200),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSameAnswers = _SameAnswers.TestCase

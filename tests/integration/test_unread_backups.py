"""A file that cannot be read is not damaged: a share that dropped, a cloud, a refusal.

strace lets the kernel's own answer to a read be that of a share or of iCloud.
"""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path

import pytest

from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs.backup import backup
from tests.faults.tracing import tracing
from tests.support import samples, zygote
from tests.support.databases import make_database, tree
from tests.support.jobs import backup_job, context

_NOT_DAMAGE = ["EDEADLK", "EPERM", "ETIMEDOUT", "ESTALE", "EACCES", "EHOSTDOWN", "ENOTCONN"]
_DAMAGE = ["EIO", "EBADMSG", "EUCLEAN"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Give a backup in an archive."""
    archive = tmp_path / "archive"
    archive.mkdir()
    job = backup_job(make_database(tmp_path / "gym.db"), archive)
    return Path(backup.run(job, context()).path)


def _refused(*words: object, answer: str, of: Path, calls: str = "read") -> zygote.Finished:
    """Run a verb to which the system answers each of these calls on the file `of` with an errno."""
    inject = f"inject={calls}:error={answer}"
    with tracing("-P", str(of), "-e", f"trace={calls}", "-e", inject) as traced:
        return zygote.shared().run(*words, traced=traced)


@pytest.mark.parametrize("answer", samples.sample(_NOT_DAMAGE, "answers", 3))
def test_a_backup_that_cannot_be_read_is_not_called_damaged(made: Path, answer: str) -> None:
    """The error says why and what to do, and nothing is stored."""
    before = tree(made.parent)
    done = _refused("verify", "--archive", made.parent, "--json", answer=answer, of=made)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["code"]) == (1, "source-unreadable")
    assert str(made) in told["error"]
    assert told["hint"]
    assert tree(made.parent) == before


@pytest.mark.parametrize("answer", samples.sample(_DAMAGE, "lost"))
def test_bytes_that_the_disk_has_lost_are_damage(made: Path, answer: str) -> None:
    """Each of these says that the content is gone."""
    done = _refused("verify", "--archive", made.parent, "--json", answer=answer, of=made)
    assert json.loads(done.stdout)["code"] == "backup-damaged"
    assert marks.read(made).problems


def test_sqlite_alone_failing_to_read_is_not_damage(made: Path) -> None:
    """The share comes back between SQLite's check and the hashes."""
    done = _refused(
        "verify", "--archive", made.parent, "--json", answer="ETIMEDOUT", of=made, calls="pread64"
    )
    assert json.loads(done.stdout)["code"] == "read-failed"
    assert marks.read(made) == marks.Marks()


@pytest.mark.parametrize("record", [manifests.manifest_path, marks.marks_path])
def test_a_backup_whose_facts_cannot_be_read_is_not_pruned(made: Path, record: object) -> None:
    """The list shows why nothing is known of it."""
    marks.change(made, note="an old one")
    backup.run(backup_job(made.parents[1] / "gym.db", made.parent), context())
    path = record(made)  # type: ignore[operator]
    for words in (
        ("list", "--archive", made.parent),
        ("prune", "--archive", made.parent, "--keep-count", "1"),
    ):
        done = _refused(*words, "--json", answer="EDEADLK", of=path)
        assert f"{path} could not be read" in done.stdout, words
    assert made.exists()


def test_marks_that_cannot_be_read_are_not_replaced(made: Path) -> None:
    """A pin would be lost, or one set that nobody wants."""
    marks.change(made, rejected_at="2026-11-23T03:00:00+00:00")
    before = tree(made.parent)
    done = _refused("keep", made, "--json", answer="ETIMEDOUT", of=marks.marks_path(made))
    assert json.loads(done.stdout)["code"] == "source-unreadable"
    assert tree(made.parent) == before
    assert Catalog(made.parent, UTC).read(made.name).marks.rejected_at

"""What this SQLite cannot check is no damage to a newer one either, and the other way round."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.jobs.backup import backup
from tests.support import samples
from tests.support.command import GYMDBD, ROOT, environment
from tests.support.jobs import backup_job, context
from tests.support.newer import newer_sqlite
from tests.support.unlike import UNCHECKABLE, make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pulling import Peer

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="pysqlite3-binary is built for Linux on x86-64",
)
_KINDS = sorted(kind for kind in UNCHECKABLE if not kind.startswith("newer"))


@pytest.fixture
def newer(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a newer SQLite."""
    return environment(**newer_sqlite(tmp_path / "library"))


def _run(newer: dict[str, str], *words: object) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [*GYMDBD, *map(str, words), "--json"],
        env=newer,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    "kind", ["tokenizer", *samples.sample([one for one in _KINDS if one != "tokenizer"], "newer")]
)
def test_a_backup_of_an_older_sqlite_is_good_to_a_newer_one(
    tmp_path: Path, newer: dict[str, str], kind: str
) -> None:
    """verify, drill and restore take it, and the next backup is made by the newer one."""
    source, archive = make(tmp_path / "app.db", UNCHECKABLE[kind]), tmp_path / "archive"
    made = backup.run(backup_job(source, archive), context())
    where = ("--archive", archive)
    code, told = _run(newer, "verify", "--all", *where)
    assert (code, [one["verdict"] for one in told["backups"]]) == (0, ["verified"])
    code, told = _run(newer, "drill", *where)
    assert (code, told["tables"]["plain"]) == (0, 1)
    code, told = _run(newer, "restore", made.path, "--to", tmp_path / "other.db")
    assert (code, told["tables"]["plain"]) == (0, 1)
    code, told = _run(newer, "backup", "--database", source, *where)
    assert (code, told["tables"]["plain"]) == (0, 1)
    assert any("not checked" in remark for remark in told["remarks"])


def test_a_tokenizer_of_the_application_over_there_is_no_damage(
    peer: Peer, newer: dict[str, str]
) -> None:
    """A pull by the newer SQLite takes it, and says what it could not check."""
    peer.database.unlink()
    make(peer.database, UNCHECKABLE["tokenizer"], wal=True)
    code, told = _run(newer, "-c", peer.config(), "pull")
    assert (code, told["tables"]["plain"]) == (0, 1)
    assert "korean" in " ".join(told["remarks"])


def test_all_that_is_known_of_checks_holds_with_a_newer_sqlite(newer: dict[str, str]) -> None:
    """The tests of what SQLite's answers mean pass there, but for the kinds that it understands."""
    options = ("-q", "-p", "no:cacheprovider", "-k", "not newer")
    files = ("tests/unit/test_soundness.py", "tests/unit/test_modules.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=ROOT,
        env=newer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]

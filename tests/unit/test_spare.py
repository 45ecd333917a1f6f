"""The spare by itself: brought forward it is the replica, byte for byte."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import files
from gymdbd.jobs.pull import spare
from gymdbd.jobs.pull.spare import Spare
from tests.support.command import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = 512


def _replace(replica: Path, pages: list[bytes]) -> Spare:
    """Let a pull replace the replica, and keep the old one as its spare."""
    old = replica.read_bytes()
    new = b"".join(pages)
    changed = [
        at // _PAGE + 1
        for at in range(0, len(new), _PAGE)
        if old[at : at + _PAGE] != new[at : at + _PAGE]
    ]
    fresh = replica.with_name("fresh")
    fresh.write_bytes(new)
    kept = spare.keep(replica, fresh, changed, _PAGE)
    assert kept is not None
    fresh.replace(replica)
    return kept


@pytest.mark.parametrize(("before", "after"), [(20, 20), (20, 7), (7, 20)])
def test_brought_forward_it_is_the_replica(tmp_path: Path, before: int, after: int) -> None:
    """Also where that has fewer or more pages; others may not read it."""
    replica, partial = tmp_path / "gym.db", tmp_path / ".gym.db.partial"
    pages = [random.randbytes(_PAGE) for _ in range(before)]
    replica.write_bytes(b"".join(pages))
    replica.chmod(0o644)
    fresh = [*pages, *(random.randbytes(_PAGE) for _ in range(after))][-after:]
    kept = _replace(replica, [*pages[: after // 2], *fresh][:after])
    assert spare.is_there(kept, replica)
    assert spare.bring_forward(kept, replica, partial)
    assert partial.read_bytes() == replica.read_bytes()
    assert partial.stat().st_mode & 0o777 == 0o600
    assert not spare.spare_path(replica).exists()


def test_a_spare_is_read_back_as_it_was_noted() -> None:
    """From the state, which is JSON."""
    kept = Spare([5, 1024, 12345678], 512, [1, 2])
    assert Spare.parse(kept.note()) == kept


@pytest.mark.parametrize(
    "content",
    [
        *(None, [], "spare", {}, {"identity": [1]}),
        {"identity": [1, 2, 3], "page_size": 512, "changed": [0]},
        {"identity": [1, 2, 3], "page_size": 512, "changed": ["1"]},
        {"identity": [1, 2, 3], "page_size": 512, "changed": 7},
        {"identity": [1, 2, 3], "page_size": -512, "changed": [1]},
        {"identity": [1, 2, 3], "page_size": 512, "changed": [1], "more": 1},
    ],
)
def test_what_is_no_spare_is_none(content: Any) -> None:
    """Whatever the state holds, a page is never written where there is none."""
    assert Spare.parse(content) is None


def test_one_that_differs_in_too_much_is_not_kept(tmp_path: Path) -> None:
    """The list of its pages is part of a small file."""
    replica = tmp_path / "gym.db"
    replica.write_bytes(b"x" * _PAGE)
    changed = range(1, spare.MOST_PAGES + 2)
    assert spare.keep(replica, replica, changed, _PAGE) is None
    assert replica.stat().st_nlink == 1


def test_where_a_file_can_have_one_name_only_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT and some network file systems refuse a link."""

    def refuse(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted", *names)

    replica = tmp_path / "gym.db"
    replica.write_bytes(b"x" * _PAGE)
    monkeypatch.setattr(os, "link", refuse)
    assert spare.keep(replica, replica, [1], _PAGE) is None
    assert files.identity(replica)[1] == _PAGE


def test_who_opens_the_file_while_it_is_looked_at_does_not_end_us(tmp_path: Path) -> None:
    """The kernel tells the holder of a lease by a signal; the other one waits for an instant."""
    script = (
        "import fcntl, subprocess, sys\n"
        "from pathlib import Path\n"
        "from gymdbd.jobs.pull import spare\n"
        "ask, opened = fcntl.fcntl, []\n"
        "def slowly(descriptor, command, value):\n"
        "    answer = ask(descriptor, command, value)\n"
        "    if (command, value) == (fcntl.F_SETLEASE, fcntl.F_WRLCK):\n"
        "        opened.append(subprocess.Popen(['cat', sys.argv[1]], stdout=subprocess.PIPE))\n"
        "        while 'lease' not in open(f'/proc/{opened[0].pid}/wchan').read():\n"
        "            pass\n"
        "    return answer\n"
        "fcntl.fcntl = slowly\n"
        "print(spare._is_open_nowhere_else(Path(sys.argv[1])), opened[0].communicate()[0])\n"
    )
    path = tmp_path / "spare"
    path.write_bytes(b"what it holds")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True b'what it holds'\n"), done.stderr

"""What a machine says of its jobs may be any bytes: it costs nothing here, and no pull."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.jobs.pull import told
from gymdbd.runs import overview
from gymdbd.source import public
from tests.support import samples
from tests.support.command import ORDINARY_USER, ROOT, environment, gymdbd

if TYPE_CHECKING:
    from tests.support.pulling import Peer

_GOOD = {"job": "nightly", "kind": "backup", "health": "ok", "code": ""}
_STATUS = {"schema": 1, "machine": "pi", "now": "2026-11-28T12:00:00Z", "jobs": [_GOOD]}


def _lying(folder: Path, peer: Peer, answer: str) -> dict[str, Any]:
    """Return the ssh: section with a serving side that answers so."""
    script = folder / "liar"
    command = [sys.executable, f"{ROOT}/tests/attacks/lying_status.py", str(peer.database), answer]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    script.chmod(0o755)
    return {"python": str(script)}


def _says(**changes: Any) -> str:
    """Return the answer with a status that is changed so."""
    return repr({"now": 1_795_867_200.0, "text": json.dumps({**_STATUS, **changes})})


_NONE = [
    "{}",
    "{'now': 'noon', 'text': 3}",
    "{'now': nan, 'text': '{}'}",
    "{'now': 1e300, 'text': '{}'}",
    "{'now': 1, 'text': ' ' * 900_000}",
    "{'now': 1, 'text': '[' * 8000}",
    "{'now': 1, 'refused': '\\x1b[2J' * 1000}",
    "{'now': 1, 'text': 'x' * 2_000_000}",
    "end",
]


@pytest.mark.parametrize("answer", samples.sample(_NONE, "answers", 3))
def test_an_answer_that_is_none_leaves_the_pull_and_the_terminal_alone(
    peer: Peer, tmp_path: Path, answer: str
) -> None:
    """It is a remark of ours; nothing of theirs is shown, and little is kept."""
    ssh = _lying(tmp_path, peer, answer)
    assert peer.pull(ssh=ssh).strategy == "full"
    assert told.path(peer.job()).stat().st_size < 64 * 1024
    seen = overview.take(config.load(peer.config(ssh=ssh)), Clock())
    assert (seen.peers, list(seen.remarks)) == ({}, ["127.0.0.1"])
    shown = gymdbd("-c", peer.config(ssh=ssh), "status").stdout
    assert "does not tell how its jobs are" in shown
    assert shown.replace("\n", "").isprintable()


def test_names_and_moments_that_mean_harm_hide_no_other(peer: Peer, tmp_path: Path) -> None:
    """Of a job with an odd name nothing is shown, of one with odd times the rest."""
    odd = {**_GOOD, "job": "odd", "last_success": "9999-12-31T23:59:59Z", "code": "\x1b[2J"}
    names = ["\x1b[31m", "a\nb", "..", "a/b", "", 3, None, "x" * 70, "\u202egnp"]
    jobs = [{**_GOOD, "job": name} for name in names]
    ssh = _lying(tmp_path, peer, _says(jobs=[*jobs, odd, "job", _GOOD]))
    peer.pull(ssh=ssh)
    seen = overview.take(config.load(peer.config(ssh=ssh)), Clock())
    assert list(seen.peers) == ["127.0.0.1/odd", "127.0.0.1/nightly"]
    entry = seen.peers["127.0.0.1/odd"].entry
    assert (entry.last_success, entry.code) == (None, None)


@pytest.mark.parametrize("answer", ["hang", *(["drip"] if samples.EVERYTHING else [])])
def test_a_machine_that_does_not_come_to_an_end_keeps_no_pull(
    peer: Peer, tmp_path: Path, answer: str
) -> None:
    """The pages have come; the question is given up after some seconds, and asked again later."""
    # Bytes that trickle in are given up by the time of the whole answer, and by nothing else.
    patience = {"hang": "1s", "drip": "1h"}[answer]
    ssh = {**_lying(tmp_path, peer, answer), "stall_timeout": patience}
    code, found = peer.pull_by_command(ssh=ssh)
    assert (code, found["strategy"]) == (0, "full")
    kept = told.read(peer.job())
    assert kept is not None
    assert (kept.refused, kept.text) == ("stalled", "")


@pytest.mark.parametrize(
    "kind", ["link", "pipe", "full pipe", "folder", "socket", "large", "device"]
)
def test_only_an_ordinary_small_file_is_told(tmp_path: Path, kind: str) -> None:
    """Whoever may write beside it cannot make the server wait, or tell another file."""
    place = tmp_path / "status.public.json"
    secret = tmp_path / "secret"
    secret.write_text('{"jobs": []}')
    with closing(socket.socket(socket.AF_UNIX)) as listener, ExitStack() as held:
        if kind == "link":
            place.symlink_to(secret)
        elif kind == "pipe":
            os.mkfifo(place)
        elif kind == "full pipe":
            os.mkfifo(place)
            writer = held.enter_context(place.open("r+b", buffering=0))
            writer.write(secret.read_bytes())
        elif kind == "folder":
            place.mkdir()
        elif kind == "socket":
            listener.bind(str(place))
        elif kind == "large":
            # What a reader of fewer bytes would take for a whole status.
            place.write_bytes(secret.read_bytes().ljust(8193))
        else:
            place = Path("/dev/zero")
        answer = public.read(place)
    assert (sorted(answer), answer["refused"]) == (["now", "refused"], "odd")


@pytest.mark.parametrize(
    "text",
    ["root:*:20228:0:99999:7:::\n", '{"schema": 1, "jobs": {"nightly": {}}}', "[" * 8000, "3"],
    ids=["/etc/shadow", "the status file", "deep", "a number"],
)
def test_a_file_that_is_no_public_status_is_not_told(tmp_path: Path, text: str) -> None:
    """Somebody may name the wrong file in the command of a key, or link one to its place."""
    place = tmp_path / "status.public.json"
    place.write_text(text)
    assert public.read(place)["refused"] == "odd"


@pytest.mark.parametrize("place", ["~nobody-of-that-name/status.json", "a\0b", "x" * 5000])
def test_a_place_that_can_be_no_file_is_odd(place: str) -> None:
    """It comes from the other machine, and may be anything."""
    assert public.read(place)["refused"] == "odd"


def test_the_home_of_the_account_is_known_and_a_closed_file_is_named(tmp_path: Path) -> None:
    """Whoever asks is told that a right is lacking, and not that there is no status."""
    place = tmp_path / "status.public.json"
    place.write_text('{"jobs": []}')
    place.chmod(0)
    script = (
        "import os\nfrom gymdbd.source import public\n"
        "print(public.read('~/status.public.json')['refused'])\n"
        "os.chmod(os.path.expanduser('~/status.public.json'), 0o600)\n"
        "print(public.read('~/status.public.json')['text'])\n"
    )
    command = [*ORDINARY_USER, sys.executable, "-c", script]
    extra = environment(HOME=str(tmp_path))
    done = subprocess.run(command, env=extra, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["denied", '{"jobs": []}'], done.stderr

"""A machine that only pretends to take the database: it is blamed, and costs no time or memory."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import samples
from tests.support.command import ROOT, gymdbd_json

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pulling import Peer

_BOUNDS = ["prlimit", "--as=1500000000", "--cpu=20", "--fsize=100000000"]


def rebuild(peer: Peer, folder: Path, mode: str, *words: str) -> tuple[int, dict[str, Any]]:
    """Rebuild at a machine that lies in this way, within limits of the system's."""
    script = folder / "liar"
    command = [sys.executable, f"{ROOT}/tests/attacks/lying_receiver.py", mode]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    script.chmod(0o755)
    config = peer.config(ssh={"python": str(script)})
    return gymdbd_json("-c", config, "rebuild", *words, prefix=_BOUNDS)


_LIES = (
    *("path-is-a-number", "list-is-a-text", "free-is-huge"),
    *("hashes", "hashes-again", "talks"),
)


@pytest.mark.parametrize("mode", samples.sample(_LIES, "lies of a receiver", size=2))
def test_an_answer_that_makes_no_sense_ends_the_rebuild(
    peer: Peer, tmp_path: Path, mode: str
) -> None:
    """It is an error of the other side's, and nothing here has changed."""
    peer.pull()
    before = peer.replica.read_bytes()
    exit_code, result = rebuild(peer, tmp_path, mode)
    assert (exit_code, result["code"]) == (1, "protocol"), result
    assert peer.replica.read_bytes() == before


def test_texts_of_the_other_side_steer_no_terminal(peer: Peer, tmp_path: Path) -> None:
    """And there are only so many of them."""
    peer.pull()
    code, result = rebuild(peer, tmp_path, "escapes", "--dry-run")
    assert code == 0
    assert all(text.isprintable() for text in (result["database"], *result["aside"]))
    assert len(result["aside"]) == 20

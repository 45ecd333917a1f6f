"""Programs that are run for their output: neither they nor their pipes keep us waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from gymdbd import groups
from tests.support import waiting

_MUCH = b"0123456789abcdef" * 2**16


def _run(
    script: str, given: bytes = b"", timeout_s: float = 60, most: int = 2**21
) -> tuple[int, bytes]:
    done = groups.run(["sh", "-c", script], given=given, timeout_s=timeout_s, most=most)
    return -1 if done.code is None else done.code, done.output


def test_much_goes_in_and_comes_out_whole() -> None:
    """More than a pipe holds, in both directions at once, and what is left at the end."""
    assert _run("cat", _MUCH) == (0, _MUCH)


def test_no_more_is_kept_than_is_asked_for() -> None:
    """The program does not notice: it prints all of it and ends."""
    assert _run("head -c 1000000 /dev/zero && exit 3", most=10) == (3, bytes(10))


@pytest.mark.parametrize("script", ["exit 4", "exec <&-; exit 4", "exec >&-; exit 4"])
def test_a_program_that_reads_no_input_ends_as_it_wants(script: str) -> None:
    """What it was given is dropped; closing its pipes is not its end."""
    assert _run(script, _MUCH) == (4, b"")


@pytest.mark.parametrize("given", [b"", _MUCH])
def test_a_program_that_takes_too_long_is_ended(given: bytes) -> None:
    """With its children, and although it reads nothing of what it is given."""
    code, output = _run("sleep 3600 & echo $!; wait", given, timeout_s=1)
    assert code == -1
    state = Path(f"/proc/{int(output)}/stat")
    waiting.until(lambda: not state.exists() or " Z " in state.read_text(), "its end")

"""The end by a signal: at a safe point if there is one in time, and at once otherwise."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import pytest

from gymdbd.terminal import ending
from tests.support.command import environment

_BEGIN = "import hashlib, os, signal, sys, threading, time\nfrom gymdbd.terminal import ending\n"
# It hears each signal, and does not end.
_STUBBORN = """
with ending.caught() as found:
    print("begun", flush=True)
    while True:
        time.sleep(0.01)
"""
# Python hears nothing meanwhile. A terminal and sudo send the same signal.
_DEAF = """
with ending.caught() as found:
    for after in (0.1, 0.2):
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGTERM)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)
sys.exit(7 if found else 1)
"""
_LATE = """
with ending.caught(0.1):
    time.sleep(60)
"""


def _start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _BEGIN + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )


@pytest.mark.parametrize(
    ("script", "code", "said"), [(_DEAF, 7, ""), (_LATE, 1, "by its timeout")], ids=["deaf", "late"]
)
def test_who_is_deaf_for_a_moment_ends_at_a_safe_point_and_who_is_late_at_once(
    script: str, code: int, said: str
) -> None:
    """The same signal twice within a moment is one."""
    with _start(script) as process:
        _, error = process.communicate(timeout=30)
        assert (process.returncode, said in error) == (code, True)


def test_a_later_second_signal_ends_the_process_at_once() -> None:
    """Whoever sends it has waited long enough."""
    with _start(_STUBBORN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        code = process.poll()
        process.kill()
        assert code == 128 + signal.SIGTERM


def test_what_a_signal_did_before_it_does_again_after_the_block() -> None:
    """Also to what is woken by it."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ending.caught():
        pass
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    woken = signal.set_wakeup_fd(-1)
    assert (after, woken) == (before, -1)

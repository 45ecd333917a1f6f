"""Processes on a Mac, as far as its double can say."""

from __future__ import annotations

import subprocess
import sys

from tests.support.mac import environment

_ZOMBIE = """
import os, signal, subprocess, sys
from gymdbd import groups
alive = subprocess.Popen(["sleep", "60"], start_new_session=True)
gone = subprocess.Popen(["true"], start_new_session=True)
os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
print(groups.send(gone.pid, signal.SIGKILL), groups.send(alive.pid, signal.SIGKILL), alive.wait())
"""


def test_a_group_of_zombies_is_no_error() -> None:
    """Of such a group a Mac answers EPERM. A command that has just ended fails no run."""
    done = subprocess.run(
        [sys.executable, "-c", _ZOMBIE],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["False", "True", "-9"], "")

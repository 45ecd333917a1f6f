"""The stage itself: whatever becomes of the tests, nothing of it stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.guest import groups, sweep
from tests.support.command import ROOT, environment
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.e2e.conftest import Stage

_BOOT = """
import sys
from pathlib import Path
from tests.e2e.guest import guest
from tests.e2e.network import office

with office() as place, guest((Path(sys.argv[1]),), Path(sys.argv[2]), place.pi) as machine:
    machine.boot()
    print(machine.leader, place.pi.keeper, place.mac.keeper, place.between.keeper, flush=True)
    sys.stdin.read()
"""


def test_tests_that_are_killed_leave_no_machine_and_no_network(
    stage: Stage, tmp_path: Path
) -> None:
    """Killed hard with a machine that is on: its processes end, and the next tests sweep."""
    words = [sys.executable, "-c", _BOOT, str(stage.tree), str(tmp_path / "pi")]
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        left = [Path("/proc", number) for number in tests.stdout.readline().split()]
        assert [one for one in left if one.exists()] == left != []
        tests.send_signal(signal.SIGKILL)
    until(lambda: not any(one.exists() for one in left), "the end of everything")
    assert groups(f"gde2e-{tests.pid}-*") != []

    def is_swept() -> bool:
        sweep()
        return groups(f"gde2e-{tests.pid}-*") == []

    until(is_swept, "the end of their control groups")

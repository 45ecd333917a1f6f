"""The ledger beside the status file, written by real daemons and runs, several at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gymdbd import lock
from gymdbd.runs import ledger
from gymdbd.runs.line import ASLEEP, CLOCK_SET, NO_DAEMON, OFF, Line
from gymdbd.runs.outcome import BUSY
from tests.support.command import environment
from tests.support.daemon_process import running_daemon
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A daemon on a machine whose clocks jump when a file appears: `now` and `since_boot` by as many
# hours as it says, and which was started so many hours ago.
_CLOCKS = """
import sys
from datetime import timedelta
from pathlib import Path
from gymdbd import clock, log
from gymdbd.config import config
from gymdbd.daemon.loop import Daemon
jumps, started_h = Path(sys.argv[1]), float(sys.argv[2])
class Jumping(clock.Clock):
    def jumped(self, which):
        return float(jumps.read_text().split()[which]) if jumps.exists() else 0
    def now(self):
        return super().now() + timedelta(hours=self.jumped(0))
    def since_boot(self):
        return self.monotonic() - began + (started_h + self.jumped(1)) * 3600
began = clock.Clock().monotonic()
settings = config.load(Path(sys.argv[-2]))
log.configure(settings.log)
sys.exit(Daemon(settings, Jumping()).run())
"""


def _config(folder: Path, **settings: Any) -> Path:
    """Write a configuration with one job, which is due every night unless it says otherwise."""
    database = folder / "gym.db"
    make_database(database)
    (folder / "archive").mkdir(mode=0o700)
    when = {} if "every" in settings else {"schedule": "0 3 * * *"}
    job = {"kind": "backup", "database": str(database), "archive": str(folder / "archive")}
    return write_config(folder, {"nightly": {**job, **when, **settings}})


def _left_behind(folder: Path, age: timedelta) -> None:
    """Write the status file of a daemon that ended so long ago, after a good run."""
    moment = (datetime.now(UTC) - age).isoformat(timespec="seconds")  # noqa: TID251 - real time
    entry = {
        "kind": "backup",
        "state": "ok",
        **dict.fromkeys(("last_success", "last_run", "last_due", "next_run"), moment),
    }
    daemon = {"pid": 1, "version": "0.1.0", "started_at": moment, "host": "pi"}
    content = {"schema": 1, "daemon": daemon, "jobs": {"nightly": entry}}
    (folder / "status.json").write_text(json.dumps(content))


def _read(folder: Path, is_wanted: Callable[[Line], bool]) -> list[Line]:
    return [line for line in ledger.read(folder / ledger.NAME) if is_wanted(line)]


def _was_skipped(line: Line) -> bool:
    return line.state == "skipped"


def _prefix(folder: Path, started_h: float) -> list[str]:
    return [sys.executable, "-c", _CLOCKS, str(folder / "jumps"), str(started_h)]


def test_nights_off_and_nights_without_the_daemon_are_told_apart_and_made_up_once(
    tmp_path: Path,
) -> None:
    """The machine was off for three days, then on for two; then the daemon starts."""
    config = _config(tmp_path, schedule="0 */6 * * *")
    _left_behind(tmp_path, timedelta(days=5))

    with running_daemon(config, prefix=_prefix(tmp_path, started_h=48)) as daemon:
        (run,) = until(lambda: _read(tmp_path, lambda line: line.made_up), "a run made up")
        assert daemon.stop() == 0
    skipped = _read(tmp_path, _was_skipped)

    assert run.state == "ok"
    assert [*dict.fromkeys(line.why for line in skipped)] == [OFF, NO_DAEMON]
    assert abs(sum(line.count for line in skipped) - 5 * 4) <= 1
    off = sum(line.count for line in skipped if line.why == OFF)
    assert abs(off - 3 * 4) <= 1
    # The due moment of the run that was made up is the first that was skipped.
    assert run.due == skipped[0].first


def test_hours_asleep_and_hours_over_which_the_clock_was_set_are_told_apart(
    tmp_path: Path,
) -> None:
    """The clock jumps by 30 hours while the daemon runs: 20 of them asleep, 10 by being set."""
    config = _config(tmp_path, schedule="30 * * * *")
    jumps = tmp_path / "jumps"

    prefix = _prefix(tmp_path, started_h=500)
    with running_daemon(config, watchdog_s=0.3, prefix=prefix) as daemon:
        until(lambda: daemon.entry("nightly").get("next_run"), "the plan is made")
        partial = tmp_path / "partial"
        partial.write_text("30 20")
        partial.rename(jumps)
        daemon.wait_for_event("clock jumped, next runs recomputed")
        until(lambda: _read(tmp_path, _was_skipped), "what was skipped")
        assert daemon.stop() == 0
    skipped = _read(tmp_path, _was_skipped)

    counts = {
        why: sum(line.count for line in skipped if line.why == why) for why in (CLOCK_SET, ASLEEP)
    }
    assert (counts[CLOCK_SET], counts[ASLEEP]) in {(10, 20), (9, 20), (10, 19), (11, 20), (10, 21)}
    assert {line.why for line in skipped} == {CLOCK_SET, ASLEEP}


def test_due_moments_while_a_run_is_at_work_are_skipped_as_busy(tmp_path: Path) -> None:
    """Those of an hour share a line; the run waits for the archive, which somebody else uses."""
    config = _config(tmp_path, every="1s")

    with running_daemon(config, watchdog_s=0.3) as daemon:
        with lock.hold([lock.archive_lock(tmp_path / "archive")], wait_s=20):
            until(
                lambda: sum(line.count for line in _read(tmp_path, _was_skipped)) > 3,
                "due moments are skipped",
                within_s=30,
            )
        assert daemon.stop() == 0

    skipped = _read(tmp_path, _was_skipped)
    assert {line.why for line in skipped} == {BUSY}
    assert skipped[0].count > 1


# Records runs without end: of its own job, or as many as asked for.
_WRITER = """
import sys
from pathlib import Path
from gymdbd.config.kinds import BackupConfig
from gymdbd.runs.outcome import Ended, Outcome
from gymdbd.runs.status import StatusFile
folder, name, count, state = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
job = BackupConfig(name=name, kind="backup", database=folder / "d", archive=folder)
status = StatusFile(folder / "status.json", lock_wait_s=60)
for number in range(count):
    moment = "2026-11-28T03:%02d:%02d+09:00" % divmod(number % 3600, 60)
    status.run_ended(job, Ended(
        run_id="1", reason="scheduled", due=moment, started_at=moment, ended_at=moment,
        duration_s=1.0, outcome=Outcome(state=state),
    ))
    print(number, flush=True)
"""


def _writer(folder: Path, name: str, count: int, state: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder), name, str(count), state],
        env=environment(),
        stdout=subprocess.PIPE,
    )


def test_many_processes_that_end_at_once_lose_no_line(tmp_path: Path) -> None:
    """Some have a line for each run, the others one for all."""
    states = ["ok", "unchanged"] * 3
    writers = [_writer(tmp_path, f"job-{at}", 30, state) for at, state in enumerate(states)]
    codes = [writer.communicate(timeout=120) and writer.returncode for writer in writers]
    found = ledger.read(tmp_path / ledger.NAME)

    assert codes == [0] * len(states)
    for at, state in enumerate(states):
        counts = [line.count for line in found if line.job == f"job-{at}"]
        assert counts == ([1] * 30 if state == "ok" else [30])


def test_a_writer_killed_in_the_middle_costs_no_line_before_and_spoils_none_after(
    tmp_path: Path,
) -> None:
    """Of each run that it has reported, the ledger has the line."""
    for state in ("ok", "unchanged"):
        writer = _writer(tmp_path, state, 10**6, state)
        assert writer.stdout is not None
        reported = int([writer.stdout.readline() for _ in range(25)][-1])
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        after = _writer(tmp_path, f"after {state}", 1, "ok")
        assert after.communicate(timeout=60)[0] == b"0\n"

        found = ledger.read(tmp_path / ledger.NAME)
        assert sum(line.count for line in found if line.job == state) > reported
        assert found[-1].job == f"after {state}"

"""try it on sample data: a backup while another process writes

Everything happens in a temporary folder, which is deleted at the end unless you
add --keep. Your own files are not touched.

examples:
  gymdbd demo
  gymdbd demo --keep
      leave the folder in place, with a configuration to experiment with
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.commands import backup, status
from gymdbd.config import config
from gymdbd.jobs.backup.result import BackupResult
from gymdbd.terminal import by_hand, options, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.terminal.output import Output

_CONFIG = """\
status_file: {folder}/status.json
jobs:
  nightly-backup:
    kind: backup
    schedule: "0 3 * * *"
    database: {folder}/instance/gym_system.db
    archive: {folder}/backups
    keep: {{days: 7, count: 10}}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--keep", action="store_true", help="leave the folder in place")
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Create a database, write to it, back it up, and print the result."""
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-demo-"))
    try:
        return _demonstrate(folder, output, keep=arguments.keep)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def _demonstrate(folder: Path, output: Output, *, keep: bool) -> int:
    narrate = output.print_line if not output.json else lambda line="": None  # noqa: ARG005
    settings_path = folder / "config.yaml"
    database = folder / "instance/gym_system.db"
    for parent in (database.parent, folder / "backups"):
        parent.mkdir(mode=0o700)
    settings_path.write_text(_CONFIG.format(folder=folder))
    sample.build(database)
    narrate(f"created a sample database in WAL mode: {database}")
    settings = config.load(settings_path)
    with _writer(database):
        before = sample.newest_event(database)
        narrate("another process is writing to it; running gymdbd backup nightly-backup:")
        narrate()
        job = settings.jobs["nightly-backup"]
        outcome = by_hand.run_job(job, settings, output, in_journal=False).outcome
        after = sample.newest_event(database)
    result = outcome.result
    if outcome.exit_code or not isinstance(result, BackupResult):
        by_hand.report_failure(outcome, output)
        return outcome.exit_code
    inside = sample.newest_event(Path(result.path), immutable=True)
    events = {"before": before, "in_backup": inside, "after": after}
    payload = {**result.to_json(), "folder": str(folder) if keep else None, "events": events}
    output.result(payload, lambda: _print(result, events, folder, output, keep=keep))
    return 0 if before <= inside <= after else 1


def _print(
    result: BackupResult, events: dict[str, int], folder: Path, output: Output, *, keep: bool
) -> None:
    backup.print_result(result, output)
    output.print_line()
    output.print_line(
        f"The writer had committed event {events['before']:,} when the backup started and "
        f"{events['after']:,} when it ended."
    )
    output.print_line(
        f"The backup contains every event up to {events['in_backup']:,}: one consistent snapshot."
    )
    output.print_line()
    output.print_line("gymdbd status:")
    words = {"config": folder / "config.yaml", "brief": False, "archive": None, "source": None}
    status.run(argparse.Namespace(**words), output)
    output.print_line()
    if keep:
        output.print_line(f"Everything is in {folder}. Try gymdbd -c {folder}/config.yaml list")
    else:
        output.print_line("The folder has been deleted. gymdbd demo --keep leaves it in place.")


@contextlib.contextmanager
def _writer(database: Path) -> Iterator[None]:
    """Run a process that writes to the database during the block."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gymdbd.terminal.sample", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was requested above
        process.stdout.readline()
        yield
    finally:
        # The writer exits at the end of its input.
        process.communicate(timeout=30)

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
from typing import TYPE_CHECKING, Any

from gymdbd.terminal import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.terminal.output import Output

NAME = "demo"

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
    """Build, write, back up, prove, show."""
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-demo-"))
    try:
        return _demonstrate(folder, output, keep=arguments.keep)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def _demonstrate(folder: Path, output: Output, *, keep: bool) -> int:
    from gymdbd.config import config
    from gymdbd.terminal import sample

    tell = output.say if not output.json else lambda line="": None  # noqa: ARG005
    settings_path = folder / "config.yaml"
    database = folder / "instance/gym_system.db"
    for each in (database.parent, folder / "backups"):
        each.mkdir(mode=0o700)
    settings_path.write_text(_CONFIG.format(folder=folder))
    sample.build(database)
    tell(f"created a sample database in WAL mode: {database}")
    settings = config.load(settings_path)
    with _writer(database):
        before = sample.newest_event(database)
        tell("another process is writing to it; running gymdbd backup nightly-backup:")
        tell()
        entry, exit_code = options.run_by_hand(
            settings.jobs["nightly-backup"], settings, output, in_journal=False
        )
        after = sample.newest_event(database)
    if exit_code:
        options.tell_failure(entry, output)
        return exit_code
    result = entry["result"]
    inside = sample.newest_event(Path(result["path"]), immutable=True)
    payload: dict[str, Any] = {
        **result,
        "folder": str(folder) if keep else None,
        "events": {"before": before, "in_backup": inside, "after": after},
    }
    output.result(payload, lambda: _tell(payload, folder, output, keep=keep))
    return 0 if before <= inside <= after else 1


def _tell(payload: dict[str, Any], folder: Path, output: Output, *, keep: bool) -> None:
    from gymdbd.commands import backup, status

    events = payload["events"]
    backup.tell(payload, output)
    output.say()
    output.say(
        f"The writer had committed event {events['before']:,} when the backup started and "
        f"{events['after']:,} when it ended."
    )
    output.say(
        f"The backup contains every event up to {events['in_backup']:,}: one consistent snapshot."
    )
    output.say()
    output.say("gymdbd status:")
    status.run(argparse.Namespace(config=folder / "config.yaml"), output)
    output.say()
    if keep:
        output.say(f"Everything is in {folder}. Try gymdbd -c {folder}/config.yaml list")
    else:
        output.say("The folder has been deleted. gymdbd demo --keep leaves it in place.")


@contextlib.contextmanager
def _writer(database: Path) -> Iterator[None]:
    """Let another process write to the database all the while."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gymdbd.terminal.sample", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        process.stdout.readline()
        yield
    finally:
        # The end of its input ends the writer.
        process.communicate(timeout=30)

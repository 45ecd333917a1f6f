"""write a page for the browser: is all well, and what to do

One HTML file that needs no other file, no network and no script: how each job
is, what to do, a calendar of 13 weeks, curves, the newest backups, and the
machines. It shows what gymdbd status reports at this moment, and says until
when it is valid.

With `report: {file: ...}` in the configuration, the daemon keeps such a page up
to date. A new file can be read by its owner only; a page that is there keeps
its mode and group.

examples:
  gymdbd report --to gymdbd.html
  gymdbd report --to gymdbd.html --language ko
      the page in Korean
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import clock, files
from gymdbd.clock import Clock
from gymdbd.errors import UsageError
from gymdbd.notices import report
from gymdbd.runs import overview
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="the file to write (default: that of the configuration)",
    )
    parser.add_argument(
        "--language",
        choices=("en", "ko"),
        help="English or Korean (default: as in the configuration, or English)",
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the page."""
    settings = configuration.load(arguments)
    configured = settings.report
    to: Path | None = arguments.to or (configured.file if configured else None)
    if to is None:
        raise UsageError("no file is named", hint="add --to FILE, or report: to the configuration")
    path = files.absolute(to)
    language = arguments.language or (configured.language if configured else "en")
    seen = overview.take(settings, Clock())
    until = report.write_once(settings, seen, path, language)
    valid = clock.to_minute(until, seen.zone)
    payload = {"file": str(path), "valid_until": clock.to_text(until, seen.zone)}
    output.result(payload, lambda: output.print_line(f"{path}: valid until {valid}"))
    return 0

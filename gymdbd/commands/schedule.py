"""print the next runs of every job, in local time

examples:
  gymdbd schedule
      the next five runs of each job
  gymdbd schedule --count 1
      only the next run of each job
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import clock
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output

_MOST = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--count", type=options.number, default=5, metavar="N", help="runs of each job (default: 5)"
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the next runs."""
    settings = configuration.load(arguments)
    now = clock.Clock(zone=clock.local_zone())
    runs = {}
    for name, job in settings.jobs.items():
        moments: list[str] = []
        moment = now.now()
        for _ in range(min(arguments.count, _MOST) if job.is_scheduled else 0):
            moment = job.when.next_after(moment, now.zone)
            moments.append(clock.to_text(moment, now.zone))
        runs[name] = moments

    def show() -> None:
        for name, moments in runs.items():
            job = settings.jobs[name]
            when = f"{job.when}, {now.zone}" if job.is_scheduled else "never runs: it is a watch"
            output.print_line(f"{name} ({when})")
            for text in moments:
                output.print_line(f"  {text.replace('T', ' ')}")

    output.result({"jobs": runs}, show)
    return 0

"""print how all jobs are, as metrics for Prometheus

It is what `metrics: {textfile: ...}` in the configuration keeps up to date in a
file for node_exporter's textfile collector, while the daemon runs.

examples:
  gymdbd metrics
      the metrics of this moment, in Prometheus's text format
  gymdbd metrics | promtool check metrics
      let Prometheus's own tool check them
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.clock import Clock
from gymdbd.notices import metrics
from gymdbd.runs import overview
from gymdbd.terminal import configuration

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no flags: the format is the one that Prometheus reads."""
    del parser


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the metrics."""
    settings = configuration.load(arguments)
    text = metrics.text(settings, overview.take(settings, Clock()))
    with output.losing():
        output.binary().write(text.encode())
        output.binary().flush()
    return 0

"""rehearse a restore of the newest backup, and time it

The newest good backup is restored to a scratch folder, in the same way as
gymdbd restore does it. Then the job's probes: are queried and its command: is
run, and the copy is deleted. The live database is not touched. gymdbd status
reports the result of the last drill.

examples:
  gymdbd drill
      the drill job of the configuration
  gymdbd drill --database instance/gym_system.db
      the newest backup of a database, without probes or a command; that needs
      no configuration, and with --archive DIR no database
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import files, words
from gymdbd.archive.catalog import LATEST
from gymdbd.config.kinds import DrillConfig
from gymdbd.errors import UsageError
from gymdbd.jobs.drill.result import DrillResult
from gymdbd.terminal import by_hand, configuration, databases, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    options.add_job(parser, "drill")
    options.add_search(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the drill and print the result."""
    job, settings = _job(arguments)
    outcome = by_hand.run_job(job, settings, output).outcome
    return by_hand.report(outcome, DrillResult, _print, output)


def _job(arguments: argparse.Namespace) -> tuple[DrillConfig, Config | None]:
    if arguments.job and (arguments.archive or arguments.source):
        raise UsageError("name either a JOB, or --archive DIR or --database PATH")
    if arguments.source and arguments.archive is None:
        arguments.archive = databases.find(LATEST, arguments).path.parent
    if arguments.archive is None:
        settings = configuration.load(arguments)
        return configuration.choose_job(settings, arguments.job, DrillConfig), settings
    archive = files.absolute(arguments.archive)
    database = files.absolute(arguments.source) if arguments.source else None
    return DrillConfig(name="drill", kind="drill", archive=archive, database=database), None


def _print(result: DrillResult, output: Output) -> None:
    output.facts(
        [
            ("backup", f"{result.backup}, made {words.age(result.age_s)} ago"),
            ("restored", f"{words.rows_in(result.tables)}, integrity ok"),
            *[("probe", f"{probe.sql}: {probe.value}") for probe in result.probes],
            *([("command", "passed")] if result.command else []),
            ("recovers", f"in {result.recover_s:.3f} s"),
        ]
    )

r"""get the other machine's database to safety, now: three copies

1  backup there: the gymdbd that is installed on the other machine runs the job
   of its own configuration that backs the database up
2  pull: the database comes here, as gymdbd pull does it
3  backup here: a proven copy of what came goes into the pull's archive

Without a gymdbd over there, without a job of its own for the database, or with
a key that may do nothing but pull, the first step is skipped, and that is said.
A step that fails keeps no other from being tried; the failure is told in the
end. A damaged database is saved as it is, into NAME.damaged/ of the archive. If
the archive here cannot be written the folder `emergency` beside the replica is
used. It is safe to run again: a copy that is there already is not made a second
time. The copy here is pinned: gymdbd unkeep lets a later pull prune it.

The steps are told on standard error as they are done, and the last line says
where the safe copies are.

examples:
  gymdbd emergency
      the pull job of the configuration
  gymdbd emergency --host raspberry-pi --replica rescued/gym_system.db \
      --remote-database /home/pi/gym-controller/instance/gym_system.db
      without a configuration, on any machine that may log in there

files:
  ~/.ssh/config, ~/.ssh/known_hosts   how to reach the host, and its key
  backups/, beside the replica        the copy, unless archive: is given
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymdbd.commands import common, pull

if TYPE_CHECKING:
    import argparse

    from gymdbd.output import Output

NAME = "emergency"
_STEPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    pull.add_source(parser)
    parser.set_defaults(method=None, info_only=False)
    common.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Take the steps, and say where the safe copies are."""
    from gymdbd.job_config import EmergencyConfig

    job, settings = pull.find_job(arguments)
    emergency = EmergencyConfig(name=NAME, kind=NAME, pull=job, timeout=_STEPS * job.timeout)
    entry, exit_code = common.run_by_hand(emergency, settings, output)
    result = entry["result"]
    if result is None:
        common.tell_failure(entry, output)
        return exit_code
    facts = {name: entry[name] for name in ("state", "error", "hint", "code") if entry["error"]}
    output.result({**facts, **result}, lambda: _tell(result, output))
    if exit_code and not arguments.json:
        common.tell_failure(entry, output)
    return exit_code


def _tell(result: dict[str, Any], output: Output) -> None:
    places = _places(result["safe_copies"])
    output.say(f"safe copies   {', '.join(places) or 'none'}")
    if kept := _places(result["damaged_copies"]):
        output.say(
            f"saved as is   {', '.join(kept)}; damaged: sqlite3 PATH .recover reads the rest "
            "(not Debian's sqlite3)"
        )


def _places(copies: list[dict[str, Any]]) -> list[str]:
    return [f"{copy['host']}:{copy['path']}" if copy["host"] else copy["path"] for copy in copies]

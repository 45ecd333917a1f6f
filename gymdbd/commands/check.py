"""examine the configuration and all it names, changing nothing

One line for each thing looked at, the databases, folders, hosts and the clock:
ok, a warning, or an error with what to do about it.

Run it as the account of the daemon, which may see less than you.

examples:
  gymdbd check
  gymdbd -c new.yaml check
      try a configuration before it is taken

exit status:
  0  all is ok, or there are only warnings
  1  there is an error
  2  usage, or a configuration with faults: all are listed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.commands import common

if TYPE_CHECKING:
    import argparse

    from gymdbd.output import Output

NAME = "check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    common.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Examine everything and tell."""
    from gymdbd import examine
    from gymdbd.clock import Clock

    settings = common.load_config(arguments)
    checks = examine.examine(settings, Clock())
    failed = any(check.state == "error" for check in checks)

    def tell() -> None:
        for check in checks:
            output.say(f"{check.state:<8} {check.name}: {check.message}")
            if check.hint:
                output.say(f"         what to do: {check.hint}")

    described = [vars(check) for check in checks]
    output.result({"state": "failed" if failed else "ok", "checks": described}, tell)
    return int(failed)

"""examine the configuration and everything it points at, changing nothing

One line for each thing looked at: ok, a warning, or an error with what to do about it. The exit
code is 1 when there is an error.
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

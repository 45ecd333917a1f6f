"""check the configuration and all it names; change nothing

Prints one line for each check of the databases, folders, hosts, clock, disks
and power: ok, a warning, or an error and what to do about it.

Run it as the account that runs the daemon, because that account may have fewer
permissions than yours.

examples:
  gymdbd check
  gymdbd -c new.yaml check
      check a configuration before you install it
  gymdbd check --needs
      what install.sh has to install for it: extras, the network, credentials
  gymdbd check --reload
      only check whether the configuration is valid and the running daemon can
      load it, as the service does before a reload

exit status:
  0  no errors; there may be warnings
  1  at least one error
  2  invalid usage or configuration; all errors in the configuration are listed
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gymdbd import log
from gymdbd.clock import Clock
from gymdbd.config import needs
from gymdbd.config.config import LogConfig
from gymdbd.errors import ConfigError
from gymdbd.runs import examine
from gymdbd.runs.status import StatusFile
from gymdbd.terminal import configuration, options
from gymdbd.words import service_command

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--reload",
        action="store_true",
        help="only check whether the running daemon can load the configuration, and print nothing "
        "if it can; databases, folders and hosts are not checked, and errors are also logged",
    )
    parser.add_argument(
        "--needs",
        action="store_true",
        help="only print what the configuration needs besides gymdbd, one thing a line: "
        '"extra NAME", "network JOB" or "credential NAME"',
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run all checks and print them."""
    if arguments.reload:
        return _check_reload(arguments, output)
    if arguments.needs:
        return _print_needs(arguments, output)
    return _examine(arguments, output)


def _check_reload(arguments: argparse.Namespace, output: Output) -> int:
    """Raise the error that the daemon would log, while the caller still waits for an exit code."""
    log.configure(LogConfig(), by_hand=True)
    try:
        settings = configuration.load(arguments)
        _require_same_status_file(settings)
    except ConfigError as error:
        log.refusal(error)
        raise
    # Print nothing: systemd would put it into the journal, among the events of the daemon.
    output.result({"checks": []}, lambda: None)
    return 0


def _print_needs(arguments: argparse.Namespace, output: Output) -> int:
    found = list(needs.of(configuration.load(arguments)))

    def show() -> None:
        for line in dict.fromkeys(f"{need.kind} {need.name or need.who}" for need in found):
            output.print_line(line)

    output.result({"needs": [vars(need) for need in found]}, show)
    return 0


def _require_same_status_file(settings: Config) -> None:
    """Raise ConfigError if it is certain that no daemon uses the status file."""
    file = StatusFile(settings.status_file)
    # A daemon that cannot write to the folder runs without a lock there.
    if os.access(file.path.parent, os.W_OK) and file.is_daemon_alive() is False:
        raise ConfigError(
            f"{settings.source}: no running daemon uses status_file {file.path}, and it cannot "
            "change while the daemon runs",
            hint=f"restart the daemon instead of reloading it ({service_command('restart')})",
        )


def _examine(arguments: argparse.Namespace, output: Output) -> int:
    settings = configuration.load(arguments)
    checks = examine.examine(settings, Clock())
    failed = any(check.state == "error" for check in checks)

    def show() -> None:
        for check in checks:
            output.print_line(f"{check.state:<8} {check.name}: {check.message}")
            if check.hint:
                output.print_line(f"         what to do: {check.hint}")

    described = [vars(check) for check in checks]
    output.result({"state": "failed" if failed else "ok", "checks": described}, show)
    return int(failed)

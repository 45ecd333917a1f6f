"""The command line: parse argv, run the verb, turn an error into text and an exit code."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import gymdbd
from gymdbd import commands, disk
from gymdbd.errors import ConfigError, UsageError, unexpected
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import streams
from gymdbd.terminal.output import Output

_EXITS = """
exit status:
  0  success
  1  failure; standard error says why and what to do
  2  invalid usage or configuration
  3  busy: another run is using the same files
"""

_MORE = """
Run gymdbd COMMAND --help for details and examples.

examples:
  gymdbd demo
      try it on sample data
  gymdbd backup --database instance/gym_system.db
      make a verified backup, without a configuration
  gymdbd status
      check whether all is well

files:
  config.yaml
      the configuration: the file given with --config or $GYMDBD_CONFIG, or else
      the first of ~/.config/gymdbd/config.yaml and /etc/gymdbd/config.yaml
      that exists
"""


# How argparse begins the message for a word that is no verb; all the verbs follow.
_NO_VERB = re.compile(r"argument COMMAND: invalid choice: '([^']*)'")


class _Overview(argparse.RawDescriptionHelpFormatter):
    """The help page that lists all verbs, with a narrow column for their names."""

    def __init__(self, prog: str) -> None:
        """Start the summaries right of the longest name."""
        super().__init__(prog, max_help_position=16)


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors, so that they are reported like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; argparse itself would exit."""
        hint = f"see {self.prog} --help"
        if mistyped := _NO_VERB.match(message):
            from gymdbd.words import did_you_mean  # noqa: PLC0415 - only an error needs it

            near = did_you_mean(mistyped[1], commands.VERBS)
            message = f"there is no command {mistyped[1]}{near}"
            hint += "; the flags of a command go after it"
        raise UsageError(message, hint=hint)

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Raise UsageError: these words are neither values nor flags of the verb."""
        quotes = "" if unknown[0].startswith("-") else "a value of several words goes in quotes; "
        raise UsageError(
            f"unrecognized arguments: {' '.join(unknown)}", hint=f"{quotes}see {self.prog} --help"
        )


# Verbs that have failed if their output is lost.
_PRINTING = (
    *("authorize", "check", "completion", "diff", "list", "metrics", "rescue", "schedule"),
)


def main(argv: list[str] | None = None) -> int:
    """Run the verb in `argv` and return the exit code."""
    if argv is None:
        streams.open_closed()
    words = sys.argv[1:] if argv is None else argv
    output = Output(json="--json" in words)
    if "_ARGCOMPLETE" in os.environ:
        from gymdbd.terminal import completion  # noqa: PLC0415 - only for a shell that asks

        completion.offer(parser_for(completion.typed()))
    parser = parser_for(words)
    try:
        arguments, unknown = parser.parse_known_args(words)
    except SystemExit as done:
        # The help or the version has been printed.
        sys.exit(output.finish(int(done.code or 0), needed=True))
    except GymdbdError as error:
        return output.finish(_report(error, output), needed=False)
    code = _run(arguments, unknown, output)
    needed = arguments.parser.prog.split()[-1] in _PRINTING or getattr(arguments, "dry_run", False)
    return output.finish(code, needed=needed)


def _run(arguments: argparse.Namespace, unknown: list[str], output: Output) -> int:
    try:
        if arguments.debug:
            from gymdbd import log  # noqa: PLC0415 - a verb that logs nothing does without

            log.tell_everything()
        if unknown:
            arguments.parser.refuse(unknown)
        return int(arguments.run(arguments, output))
    except GymdbdError as error:
        _debug(arguments)
        return _report(error, output)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output closed it before the work was done.
        return 1
    except OSError as error:
        _debug(arguments)
        return _report(disk.system_error(error), output)
    except Exception as error:  # noqa: BLE001 - a traceback is no answer for a person
        _debug(arguments)
        return _report(unexpected(error), output)


def _debug(arguments: argparse.Namespace) -> None:
    """Print the traceback of the error that is being handled, if --debug asks for it."""
    if arguments.debug:
        import traceback  # noqa: PLC0415 - for --debug only

        traceback.print_exc()


def _report(error: GymdbdError, output: Output) -> int:
    faults = error.faults if isinstance(error, ConfigError) else ()
    payload: dict[str, Any] = {
        "state": error.state,
        "error": error.message,
        "hint": error.hint,
        "code": error.code,
    }
    if faults:
        payload["faults"] = list(faults)
    output.failure(payload)
    return error.exit_code


def parser_for(words: list[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line; of all verbs, it imports only the one in `words`."""
    parser = _Parser(
        prog="gymdbd",
        description="Keeps a live SQLite database safe: verified backups on a schedule, and\n"
        "replicas on other machines that are proven equal.",
        epilog=_MORE + _EXITS,
        formatter_class=_Overview,
    )
    parser.add_argument("--version", action="version", version=f"gymdbd {gymdbd.__version__}")
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration file (default: see files, below)",
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="print all that is logged, and where in the program an error occurred",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    typed = _verb_in(words)
    for name, summary in commands.VERBS.items():
        below = verbs.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == typed:
            verb = commands.load(name)
            below.description, below.epilog = _help(verb.__doc__)
            verb.add_arguments(below)
            below.add_argument(
                "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
            below.set_defaults(run=verb.run, parser=below)
    return parser


def _verb_in(words: list[str]) -> str | None:
    """Return the verb in a command line: its first word that is one and no value of --config."""
    for before, word in zip(["", *words], words, strict=False):
        is_value = before == "-c" or (before > "--" and "--config".startswith(before))
        if word in commands.VERBS and not is_value:
            return word
    return None


def _help(text: str) -> tuple[str, str]:
    """Split a verb's docstring into the text above its flags and the text below them."""
    above, heading, below = text.partition("examples:\n")
    return above, heading + below + ("" if "exit status:\n" in below else _EXITS)

"""tell what is to be told now, or try the channels

The daemon does it by itself: when a job changes, when a reminder is due, and
every five minutes. Without a flag, this verb takes one such look by hand, for
those whose jobs are run by cron or timers: run it every few minutes. Nothing is
told twice, whoever has told it. It also writes what others read: the public
status, the metrics and the page; for these it needs no notify:.

--test and --simulate send a message that is marked as a test, and are not
remembered. --simulate shows what a message would look like: failing, late,
suspicious or recovered with a job, or machine.

examples:
  gymdbd notify --test
      send a test message to every channel
  gymdbd notify --test owner
      send it to the channel "owner" alone
  gymdbd notify --simulate failing nightly-backup
      send the message that a failing nightly-backup would cause
  */10 * * * * gymdbd -c /etc/gymdbd/config.yaml notify > /dev/null
      in a crontab, if no daemon runs

files:
  notices.json   beside the status file: what was told, so that it is not
                 told again

exit status:
  0  everybody was told what there was to tell
  1  a channel could not be told; it is tried again at the next look
  2  invalid usage or configuration, or a message is to be tried without notify:
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gymdbd import files, log, words
from gymdbd.clock import Clock
from gymdbd.config import state
from gymdbd.config.config import LogConfig
from gymdbd.config.notify import NOBODY
from gymdbd.errors import ConfigError, NotAllowedError, UsageError
from gymdbd.jobs.finding import Health
from gymdbd.notices import look, store, telling, texts
from gymdbd.notices.memory import OK, SUSPICIOUS
from gymdbd.notices.message import ENDED, TEST, TROUBLE, Event
from gymdbd.notices.policy import DAEMON, JOB, MACHINE
from gymdbd.runs import as_owner
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.notices.message import Message
    from gymdbd.source.errors import GymdbdError
    from gymdbd.terminal.output import Output

# What can be simulated: the change, the state, the health and the code that it is given.
_SIMULATED = {
    "failing": (TROUBLE, "failing", Health.FAILING, "disk-full"),
    "late": (TROUBLE, "late", Health.LATE, "too-old"),
    "suspicious": (TROUBLE, SUSPICIOUS, Health.FAILING, SUSPICIOUS),
    "recovered": (ENDED, OK, Health.OK, "disk-full"),
    "machine": (TROUBLE, "late", Health.LATE, "disk-full-soon"),
}
_LASTED = timedelta(minutes=10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--test",
        nargs="?",
        const="",
        metavar="NAME",
        help="send a test message to the channel NAME (default: to all)",
    )
    chosen.add_argument(
        "--simulate",
        nargs="+",
        metavar=("STATE", "JOB"),
        help=f"send the message for a state of a job: {', '.join(_SIMULATED)}",
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Tell, and print whom; the exit code is 1 if a channel could not be told."""
    settings = configuration.load(arguments)
    is_tried = arguments.simulate or arguments.test is not None
    if settings.notify is None and is_tried:
        raise ConfigError(
            f"{settings.source} has no notify:, so nobody would be told",
            hint=NOBODY,
        )
    as_owner.act_as_home(settings)
    log.configure(LogConfig(), by_hand=True)
    if arguments.simulate:
        event = _simulated(settings, *arguments.simulate)
        return _try(settings, event, _chosen(settings, ""), output)
    if arguments.test is not None:
        event = _event(TEST, OK, Health.OK, "test", (DAEMON, ""))
        return _try(settings, event, _chosen(settings, arguments.test), output)
    state.make(settings.status_file)
    _require_memory(store.place(settings.status_file))
    report = look.look(settings, Clock()).report
    nobody = [f"nobody is told: {settings.source} has no notify:", f"what to do: {NOBODY}"]
    nothing = ["there is nothing to tell"] if settings.notify else nobody
    return _print(report.told, report.failed, output, nothing)


def _require_memory(file: Path) -> None:
    """Raise NotAllowedError if this user cannot know or keep what was told."""
    files.require_folder(file.parent)
    is_there = files.is_there(file)
    if not os.access(file.parent, os.W_OK) or (is_there and not os.access(file, os.R_OK)):
        raise NotAllowedError(
            f"this user (uid {os.geteuid()}) may not read and write {file}, so it cannot know "
            "what was told before",
            hint="run it as the user that the daemon runs as, or as root",
        )


def _chosen(settings: Config, name: str) -> list[str]:
    names = list(settings.notify.to) if settings.notify else []
    if not name:
        return names
    if name not in names:
        raise UsageError(
            f'there is no channel "{name}"{words.did_you_mean(name, names)}',
            hint=f"the channels are: {', '.join(names)}",
        )
    return [name]


def _simulated(settings: Config, state: str, *jobs: str) -> Event:
    if state not in _SIMULATED:
        raise UsageError(
            f'"{state}" cannot be simulated{words.did_you_mean(state, _SIMULATED)}',
            hint=f"choose one of {', '.join(_SIMULATED)}",
        )
    about = MACHINE, "disk /"
    if state != "machine":
        if len(jobs) != 1:
            raise UsageError(
                f"--simulate {state} needs the name of one job",
                hint=f"for example gymdbd notify --simulate {state} {next(iter(settings.jobs))}",
            )
        about = JOB, settings.job(jobs[0]).name
    return _event(*_SIMULATED[state], about)


def _event(change: str, state: str, health: Health, code: str, about: tuple[str, str]) -> Event:
    now = Clock().now()
    return Event(
        change=change,
        about=about[0],
        name=about[1],
        was="failing" if change == ENDED else OK,
        state=state,
        health=health,
        code=code,
        reason="",
        hint="",
        since=now - _LASTED,
        until=now if change == ENDED else None,
    )


def _try(settings: Config, event: Event, names: list[str], output: Output) -> int:
    """Send a message about one event, which is marked as a test."""
    tongue = look.tongue(settings, Clock())
    message = texts.message([event], tongue, simulated=True)
    told: dict[str, Message] = {}
    failed: dict[str, GymdbdError] = {}
    for name, error in telling.send_all(settings, dict.fromkeys(names, message)):
        if error is None:
            told[name] = message
        else:
            failed[name] = error
    return _print(told, failed, output)


def _print(
    told: Mapping[str, Message],
    failed: Mapping[str, GymdbdError],
    output: Output,
    nothing: Sequence[str] = (),
) -> int:
    def show() -> None:
        for name, message in told.items():
            output.print_line(f"{name}: sent: {message.title}")
        for name, error in failed.items():
            output.print_line(f"{name}: not sent: {error.message}")
            output.print_line(f"         what to do: {error.hint}")
        if not told and not failed:
            for line in nothing:
                output.print_line(line)

    channels: dict[str, Any] = {
        **{name: {"sent": True, "message": message.to_json()} for name, message in told.items()},
        **{
            name: {"sent": False, "error": error.message, "hint": error.hint, "code": error.code}
            for name, error in failed.items()
        },
    }
    output.result({"state": "failed" if failed else "ok", "channels": channels}, show)
    return 1 if failed else 0

"""The configuration of structlog for every process of gymdbd.

Under systemd, an event goes to journald with a sentence as its message and its data as fields, so
that `journalctl GYMDBD_JOB=nightly-backup PRIORITY=3` works. On a terminal it is coloured text,
otherwise a line of JSON. If a log file is configured, JSON lines go there as well. Commands run by
hand also log to journald, if the machine has it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from gymdbd import clock, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

    from gymdbd.config.config import LogConfig
    from gymdbd.errors import ConfigError

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_diverted: list[Callable[[EventDict], None]] = []
_everything = False  # Whether a person has asked for all events on the terminal.
_opened = contextlib.ExitStack()  # The open files and sockets of the current configuration.
# A journald that is stopped or hangs must not delay a run.
_JOURNAL_WAIT_S = 1.0
_JOURNAL = "/run/systemd/journal/socket"
_OWN = ("event", "level", "timestamp", "job", "run_id", "hint", "error")


def configure(config: LogConfig, *, by_hand: bool = False, in_journal: bool = True) -> None:
    """Send every event to the destinations of `config`.

    For a command run `by_hand`, everything goes to the journal of the machine, if it has one and
    `in_journal` is true, and only warnings go to the terminal: the command prints failures itself.
    """
    from gymdbd.log.lean import structlog  # noqa: PLC0415 - many verbs log nothing

    before = _opened.pop_all()
    chosen = _console_format(config)
    if _everything:
        sinks = [(_LEVELS["debug"], _console_sink(chosen))]
    elif not by_hand or chosen == "journald":
        sinks = [(_LEVELS[config.level], _console_sink(chosen))]
    else:
        sinks = [(_LEVELS["warning"], _but_errors(_console_sink(chosen)))]
        if in_journal and os.path.exists(_JOURNAL):  # noqa: PTH110 - every pull by hand pays for what is imported
            sinks.append((_LEVELS[config.level], _quietly(_journald_sink())))
    if config.file is not None:
        sinks.append((_LEVELS[config.level], _diverted[0] if _diverted else file_sink(config)))
    least = min(level for level, _ in sinks)
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _stamp,
            structlog.processors.format_exc_info,
            _Fan(sinks),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _take_over_logging()
    before.close()


def divert_file(sink: Callable[[EventDict], None]) -> None:
    """Let `sink` take what would go to a log file: this process acts as a user who may not."""
    _diverted[:] = [sink]


def tell_everything() -> None:
    """Show all events on the terminal, whatever a later `configure` says: `--debug`."""
    global _everything  # noqa: PLW0603 - one flag of the process, like what `configure` sets
    _everything = True


def logger() -> Any:
    """Return the logger; the runner binds job and run id to it."""
    from gymdbd.log.lean import structlog  # noqa: PLC0415 - as above

    return structlog.get_logger()


def refusal(error: ConfigError) -> None:
    """Log that a running daemon refuses a configuration, and why."""
    logger().error(
        "configuration refused, the old one stays",
        error="; ".join((error.message, *error.faults)),
        hint=error.hint,
    )


def bound(**facts: Any) -> contextlib.AbstractContextManager[None]:
    """Bind fields to all events that this thread logs in the block."""
    from gymdbd.log.lean import structlog  # noqa: PLC0415 - as above

    return structlog.contextvars.bound_contextvars(**facts)


def sentence(event: EventDict) -> str:
    """Format an event as `nightly-backup: backup published (path ..., size 3.0 MiB)`."""
    facts = ", ".join(
        f"{name} {_short(value)}"
        for name, value in event.items()
        if name not in _OWN and value not in (None, "", [], {}, ())
    )
    text = f"{event['job']}: {event['event']}" if event.get("job") else str(event["event"])
    if event.get("error"):
        text += f": {event['error']}"
    if facts:
        text += f" ({facts})"
    if event.get("hint"):
        text += f". What to do: {event['hint']}"
    return text


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, (dict, list, tuple)):
        return words.json_text(value)
    return str(value)


class _Fan:
    """The last processor: passes each event to every sink of its level."""

    def __init__(self, sinks: list[tuple[int, Callable[[EventDict], None]]]) -> None:
        self.sinks = sinks
        self.broken: set[int] = set()

    def __call__(self, logger: Any, name: str, event: EventDict) -> EventDict:
        """Deliver the event; if a sink fails, that is reported once, and the run continues."""
        from gymdbd.log.lean import structlog  # noqa: PLC0415 - as above

        del logger, name
        for number, (least, sink) in enumerate(self.sinks):
            if _LEVELS.get(event["level"], 0) >= least:
                try:
                    sink(_ordered(event))
                except OSError as error:
                    if number not in self.broken:
                        _complain(error)
                    self.broken.add(number)
                else:
                    self.broken.discard(number)
        raise structlog.DropEvent


def _stamp(logger: Any, name: str, event: EventDict) -> EventDict:
    """Add the time with its UTC offset, because an hour repeats when clocks go back."""
    del logger, name
    return {**event, "timestamp": clock.timestamp()}


def _ordered(event: EventDict) -> EventDict:
    """Put the most important fields first."""
    first = ("timestamp", "level", "event", "job", "run_id")
    return {**{name: event[name] for name in first if name in event}, **event}


def _shown(event: EventDict) -> EventDict:
    """Escape the names of others: a line break in one would begin a line that looks like ours."""
    return {
        name: words.printable(value, "\n\t" if name == "exception" else "")
        if isinstance(value, str)
        else value
        for name, value in event.items()
    }


def _complain(error: OSError) -> None:
    """Report on standard error that the log cannot be written; ignore it if that fails too."""
    try:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        what = words.printable(f"{place}{error.strerror or error}")
        sys.stderr.write(f"gymdbd: cannot write the log: {what}. The work continues\n")
    except (OSError, ValueError):
        return


def _but_errors(sink: Callable[[EventDict], None]) -> Callable[[EventDict], None]:
    return lambda event: None if event["level"] == "error" else sink(event)


def _quietly(sink: Callable[[EventDict], None]) -> Callable[[EventDict], None]:
    """Stop using a sink after its first failure, without a report, because it is optional."""
    failed = False

    def send(event: EventDict) -> None:
        nonlocal failed
        if not failed:
            try:
                sink(event)
            except OSError:
                failed = True

    return send


def _console_format(config: LogConfig) -> str:
    if config.format != "auto":
        return config.format
    if os.environ.get("JOURNAL_STREAM") and _journald_listens():
        return "journald"
    return "console" if sys.stderr.isatty() else "json"


def _console_sink(chosen: str) -> Callable[[EventDict], None]:
    if chosen == "journald":
        return _journald_sink()
    if chosen == "console":
        from gymdbd.log.lean import structlog  # noqa: PLC0415 - as above

        # Without this formatter, structlog warns about rich tracebacks.
        render = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return lambda event: _write(sys.stderr, str(render(None, "", _shown(event))))
    return lambda event: _write(sys.stderr, words.json_text(event))


def _journald_listens() -> bool:
    from logging_journald import check_journal_stream  # noqa: PLC0415 - only under systemd

    return bool(check_journal_stream())


def _journald_sink() -> Callable[[EventDict], None]:
    from logging_journald import JournaldTransport  # noqa: PLC0415 - only under systemd

    # Not connected, as in libsystemd: journald may be restarted meanwhile.
    transport = JournaldTransport(connected=False)
    transport.socket.settimeout(_JOURNAL_WAIT_S)
    _opened.callback(transport.socket.close)

    def sink(event: EventDict) -> None:
        fields = {
            f"GYMDBD_{name.upper()}": value
            if isinstance(value, (int, float))
            else _encodable(value if isinstance(value, str) else words.json_text(value))
            for name, value in event.items()
            if name not in ("level", "timestamp")
        }
        message = {
            "MESSAGE": sentence(_shown(event)),
            "PRIORITY": _PRIORITIES.get(event["level"], 6),
            "SYSLOG_IDENTIFIER": "gymdbd",
        }
        transport.send({**message, **fields}.items())

    return sink


def file_sink(config: LogConfig) -> Callable[[EventDict], None]:
    """Return what writes events to the log file of `config`, which it opens for the first one."""
    from gymdbd.log import log_file  # noqa: PLC0415 - if asked for

    path = str(config.file)
    handler = log_file.LogFile(
        path,
        maxBytes=config.max_size,
        backupCount=config.keep_files,
        chmod=0o600,
        encoding="utf-8",
    )
    handler.maxLockAttempts = 1
    _opened.callback(handler.close)

    def sink(event: EventDict) -> None:
        with log_file.named(path):
            handler.emit(logging.LogRecord("gymdbd", 20, "", 0, words.json_text(event), None, None))

    return sink


def _write(stream: TextIO, line: str) -> None:
    stream.write(_encodable(line) + "\n")
    stream.flush()


def _encodable(text: str) -> str:
    """Escape invalid characters: the name of a file may contain any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


class _Bridge(logging.Handler):
    """Passes events of libraries, which use the standard library's logging, to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        logger().log(_LEVELS.get(level, 30), record.getMessage(), logger=record.name)


def _take_over_logging() -> None:
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(logging.WARNING)
    # The scheduler's events already report a run that cannot start.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)

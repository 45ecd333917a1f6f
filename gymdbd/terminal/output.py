"""The output of the verbs: text and tables, or one JSON object; progress on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from gymdbd import words
from gymdbd.terminal import streams, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_NUMBERS = {"size", "backups", "rows", "age", "before", "after", "added", "changed", "removed"}


@dataclass
class Output:
    """Standard output and error of a verb; with `json`, one JSON object on standard output.

    If standard output cannot be written, `lost` is the error; the work of the verb continues.
    """

    json: bool = False
    lost: OSError | None = None
    _facts: dict[str, Any] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)

    def also(self, facts: dict[str, Any], line: str) -> None:
        """Let the result, whatever it is, also have these facts as JSON, and begin with a line."""
        self._facts |= facts
        self._lines.append(line)

    def result(self, payload: dict[str, Any], text: Callable[[], None]) -> None:
        """Print the result: `payload` as JSON, or by calling `text`."""
        with self.losing():
            if self.json:
                self._print_json({"schema": 1, "state": "ok", **payload, **self._facts})
            else:
                for line in self._lines:
                    self.print_line(line)
                text()

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """Leave the block if standard output cannot be written; the block writes nothing else."""
        try:
            yield
            sys.stdout.flush()
        except OSError as error:
            self.lost = error
            streams.give_up(sys.stdout)

    def finish(self, code: int, *, needed: bool) -> int:
        """Flush the output and return the exit code of a verb that has ended with `code`.

        If output that was `needed` is lost, success becomes 1. A closed pipe is not reported.
        """
        self.lost = streams.flush(sys.stdout) or self.lost
        if self.lost is not None:
            if not isinstance(self.lost, BrokenPipeError):
                self._complain(f"gymdbd: cannot write to standard output ({self.lost.strerror})\n")
            code = code or int(needed)
        streams.flush(sys.stderr)
        return code

    @staticmethod
    def _complain(text: str) -> None:
        """Write to standard error, and ignore errors."""
        try:
            sys.stderr.write(text)
        except OSError:
            streams.give_up(sys.stderr)

    def result_with_list(self, payload: dict[str, Any], name: str, pieces: Iterable[str]) -> None:
        """Print `payload` as JSON with, as its last key, a list too long to hold in memory.

        `pieces` joined are its elements as JSON, one per line, without a final line break.
        """
        head = json.dumps({"schema": 1, "state": "ok", **payload}, indent=1, default=str)
        with self.losing():
            sys.stdout.write(f"{head[:-2]},\n {json.dumps(name)}: [")
            for at, piece in enumerate(pieces):
                sys.stdout.write(("" if at else "\n  ") + piece.replace("\n", ",\n  "))
            sys.stdout.write("\n ]\n}\n")

    @staticmethod
    def binary() -> BinaryIO:
        """Return standard output for a result that consists of bytes."""
        return sys.stdout.buffer

    def failure(self, payload: dict[str, Any]) -> None:
        """Print an error: what happened, to what, and what to do."""
        if self.json:
            with self.losing():
                self._print_json({"schema": 1, **payload, **self._facts})
            if self.lost is None:
                return
        lines = [f"gymdbd: {payload['error']}"]
        lines += [f"  {fault}" for fault in payload.get("faults", [])]
        lines += [f"What to do: {payload['hint']}"] if payload["hint"] else []
        self._complain("".join(f"{printable(line)}\n" for line in lines))

    def remark(self, line: str) -> None:
        """Print a line on standard error at once, unless the output is JSON."""
        if not self.json:
            self._complain(f"{printable(line)}\n")

    def print_line(self, line: str = "") -> None:
        """Print a line of text."""
        sys.stdout.write(f"{printable(line)}\n")

    def verbatim(self, line: str) -> None:
        """Print a line byte for byte, for a program, even if the terminal cannot show it.

        `line` must contain no control characters.
        """
        with self.losing():
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(line) + b"\n")
            sys.stdout.buffer.flush()

    def facts(self, pairs: list[tuple[str, str]]) -> None:
        """Print names and values, one pair per line, aligned."""
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self.print_line(f"{name:<{width}}  {value}")

    def table(self, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table, each row as one line; the columns named as in `_NUMBERS` are numbers."""
        cells = [[printable(cell) for cell in row] for row in rows]
        rule = "─" if printable("─") == "─" else "-"
        for line in tables.drawn(columns, cells, right=_NUMBERS, rule=rule):
            sys.stdout.write(f"{line}\n")

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Show progress bars on a terminal; yields the callback (step, done, total)."""
        if self.json or not sys.stderr.isatty():
            yield lambda step, done, total: None  # noqa: ARG005
            return
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def report(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    tasks[step] = bar.add_task(printable(step), total=total)
                bar.update(tasks[step], completed=done, total=total)

            yield report

    @staticmethod
    def _print_json(payload: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(payload, indent=1, ensure_ascii=True, default=str) + "\n")


def printable(text: str) -> str:
    """Return `text` with control and unencodable characters escaped, safe for any terminal."""
    shown = words.printable(text)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)

"""What a person or a program sees: text and tables, or one JSON object; progress on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from gymdbd.terminal import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_NUMBERS = {"size", "rows", "age", "before", "after", "added", "changed", "removed"}


@dataclass
class Output:
    """The terminal, or with `json` a program that reads one object from stdout.

    What cannot be written to standard output is `lost`, which ends nothing that is done already.
    """

    json: bool = False
    lost: OSError | None = None

    def result(self, payload: dict[str, Any], text: Callable[[], None]) -> None:
        """Give the result: `payload` to a program, whatever `text` prints to a person."""
        with self.losing():
            if self.json:
                self._print_json({"schema": 1, "state": "ok", **payload})
            else:
                text()

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """End the block if standard output cannot be written; nothing else is written in it."""
        try:
            yield
            sys.stdout.flush()
        except OSError as error:
            self.lost = error
            streams.give_up(sys.stdout)

    def finish(self, code: int, *, needed: bool) -> int:
        """Write out what is left and return the exit code of a verb that has done its work.

        It is the work's, unless its output was `needed` and got lost. A reader that has had
        enough is told nothing.
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
        """Write to standard error; if that cannot be written, nobody is there to be told."""
        try:
            sys.stderr.write(text)
        except OSError:
            streams.give_up(sys.stderr)

    def result_with_list(self, payload: dict[str, Any], name: str, pieces: Iterable[str]) -> None:
        """Give a program `payload` and, as its last key, a list too long for the memory.

        Together `pieces` are its elements as JSON, a line each, with no line break at the end.
        """
        head = json.dumps({"schema": 1, "state": "ok", **payload}, indent=1, default=str)
        with self.losing():
            sys.stdout.write(f"{head[:-2]},\n {json.dumps(name)}: [")
            for at, piece in enumerate(pieces):
                sys.stdout.write(("" if at else "\n  ") + piece.replace("\n", ",\n  "))
            sys.stdout.write("\n ]\n}\n")

    @staticmethod
    def binary() -> BinaryIO:
        """Return standard output for a result that is bytes, and all there is to say."""
        return sys.stdout.buffer

    def failure(self, payload: dict[str, Any]) -> None:
        """Say what went wrong, to what, and what to do."""
        if self.json:
            with self.losing():
                self._print_json({"schema": 1, **payload})
            if self.lost is None:
                return
        lines = [f"gymdbd: {payload['error']}"]
        lines += [f"  {fault}" for fault in payload.get("faults", [])]
        lines += [f"What to do: {payload['hint']}"] if payload["hint"] else []
        self._complain("".join(f"{printable(line)}\n" for line in lines))

    def remark(self, line: str) -> None:
        """Tell a person at once, on standard error, how far a long work has come."""
        if not self.json:
            self._complain(f"{printable(line)}\n")

    def say(self, line: str = "") -> None:
        """Print a line for a person."""
        sys.stdout.write(f"{printable(line)}\n")

    def verbatim(self, line: str) -> None:
        """Print a line that a program reads: to the byte, whatever the terminal can show.

        `line` must hold nothing that moves the cursor.
        """
        with self.losing():
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(line) + b"\n")
            sys.stdout.buffer.flush()

    def facts(self, pairs: list[tuple[str, str]]) -> None:
        """Print facts, one a line, their names aligned."""
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self.say(f"{name:<{width}}  {value}")

    def table(self, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table; the columns named as in `_NUMBERS` are numbers."""
        from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - the daemon must not load it
        from rich.console import Console  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            justify: Any = "right" if column in _NUMBERS else "left"
            table.add_column(column, justify=justify, overflow="fold")
        for row in rows:
            table.add_row(*(printable(cell) for cell in row))
        terminal = sys.stdout.isatty()
        console = Console(markup=False, highlight=False, width=None if terminal else 160)
        # rich itself would end the process when nobody reads any more.
        with console.capture() as drawn:
            console.print(table)
        sys.stdout.write(drawn.get())

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Show a bar on a terminal; yields what a run calls with (step, done, total)."""
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
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def report(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    tasks[step] = bar.add_task(step, total=total)
                bar.update(tasks[step], completed=done, total=total)

            yield report

    @staticmethod
    def _print_json(payload: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(payload, indent=1, ensure_ascii=True, default=str) + "\n")


def printable(text: str) -> str:
    """Return `text` so that any terminal can take it: nothing in a name may move the cursor."""
    shown = "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)

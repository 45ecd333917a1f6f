"""The picture of `gymdbd runs` in the documentation.

`python -m tests.support.picture` makes deploy/docs/runs.svg anew, of what the verb really prints
about a gym whose machine was off for some nights, and whose Mac sleeps at weekends.
"""

from __future__ import annotations

import html
import json
import random
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gymdbd.clock import Clock
from gymdbd.runs import ledger
from gymdbd.runs.line import ASLEEP, OFF, PEER_AWAY, Line, skipped
from tests.support.command import gymdbd

_PICTURE = Path(__file__).parents[2] / "deploy" / "docs" / "runs.svg"
_DAYS = 90
_LETTER, _LINE, _EDGE = 8.4, 19, 14
_COLOURS = {"o": "#3fb950", "~": "#d29922", "x": "#f85149", "-": "#db6d28", ".": "#6e7681"}


def main() -> None:
    """Make the picture."""
    with tempfile.TemporaryDirectory() as folder:
        config = scene(Path(folder))
        printed = gymdbd("-c", config, "runs", PYTHONIOENCODING="utf-8")
    assert printed.returncode == 0, printed.stderr
    _PICTURE.write_text(drawn("gymdbd runs", printed.stdout.rstrip()), encoding="utf-8")


def scene(folder: Path) -> Path:
    """Write the configuration and the ledger of a gym; return the configuration."""
    place = {"database": str(folder / "gym_system.db"), "archive": str(folder)}
    jobs = {
        "nightly-backup": {"kind": "backup", "schedule": "0 3 * * *", **place},
        "office-copy": {"kind": "backup", "schedule": "0 9-18/3 * * *", **place},
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps({"status_file": str(folder / "status.json"), "jobs": jobs}))
    now = Clock()
    today = now.now().astimezone(now.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    dice = random.Random(7)
    for number in range(_DAYS + 1):
        day = today - timedelta(days=_DAYS - number)
        ledger.append(folder / ledger.NAME, [*_night(day, number, dice), *_office(day, dice)])
    return config


def _night(day: datetime, number: int, dice: random.Random) -> list[Line]:
    due = day + timedelta(hours=3)
    size = 3_100_000 + 21_000 * number + dice.randrange(9000)
    facts = {"size": size, "rows": {"members": 300 + number // 2, "sensor_events": 410 * number}}
    if number in {34, 35, 36}:
        return [_run("nightly-backup", due, 0.4, state="failed", code="disk-full", error=_FULL)]
    if number in {61, 62}:
        moment = due.isoformat()
        return [skipped("nightly-backup", OFF, moment, moment)]
    if number == 75:
        moment = due.isoformat()
        late = _run("nightly-backup", due + timedelta(hours=5, minutes=12), 2.9, **facts)
        made_up = Line(**{**vars(late), "made_up": True, "due": moment})
        return [skipped("nightly-backup", OFF, moment, moment), made_up]
    return [_run("nightly-backup", due, 2.1 + number / 60 + dice.random() / 2, **facts)]


_FULL = "/mnt/usb has 12.0 MiB free, but 38.4 MiB are needed"


def _office(day: datetime, dice: random.Random) -> list[Line]:
    due = [day + timedelta(hours=hour) for hour in (9, 12, 15, 18)]
    if day.weekday() == 6:
        return [skipped("office-copy", ASLEEP, due[0].isoformat(), due[-1].isoformat(), 4)]
    away = dice.random() < 0.06
    return [
        _run("office-copy", moment, 1 + dice.random(), state="unreachable", why=PEER_AWAY)
        if away and at > 1
        else _run("office-copy", moment, 1 + dice.random(), size=3_000_000)
        for at, moment in enumerate(due)
    ]


def _run(job: str, began: datetime, seconds: float, **facts: Any) -> Line:
    ended = began + timedelta(seconds=seconds)
    moments = {"first": began.isoformat(), "last": ended.isoformat(timespec="seconds")}
    given: dict[str, Any] = {"state": "ok", "longest_s": round(seconds, 3), **moments, **facts}
    return Line(job=job, due=began.isoformat(), **given)


def drawn(command: str, text: str) -> str:
    """Return what a command prints as an SVG that needs nothing else."""
    lines = [f"$ {command}", *text.splitlines()]
    width = max(map(len, lines)) * _LETTER + 2 * _EDGE
    height = len(lines) * _LINE + 2 * _EDGE
    rows = [
        f'<text x="{_EDGE}" y="{_EDGE + (at + 1) * _LINE - 5}">{_coloured(line)}</text>'
        for at, line in enumerate(lines)
    ]
    box = f"0 0 {width:.0f} {height}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="{box}">',
            f"<title>{html.escape(command)}</title>",
            (
                "<style>text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
                "fill:#e6edf3;white-space:pre}</style>"
            ),
            f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#0d1117"/>',
            *rows,
            "</svg>\n",
        ]
    )


def _coloured(line: str) -> str:
    """Return a line of text, the signs of a calendar in their colours."""
    shown = html.escape(line)
    weekday, _, signs = line.strip().partition("  ")
    if weekday not in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"):
        return shown
    coloured = "".join(
        f'<tspan fill="{_COLOURS[letter]}">{letter}</tspan>' if letter in _COLOURS else letter
        for letter in signs
    )
    return f"{shown[: line.index(weekday)]}{weekday}  {coloured}"


if __name__ == "__main__":
    main()

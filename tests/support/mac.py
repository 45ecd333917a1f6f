"""The command line as on a Mac: in processes that are doubles of a Mac's Python (`darwin/`).

What this Mac answers is given as keywords, by the variables of `darwin/answers.py` and `forms.py`:
`mac("backup", DARWIN_FLOCK="ENOTSUP")`.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.support import command, zygote


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which Python is that of a Mac."""
    return command.environment(PYTHONPATH=zygote.DARWIN_PATH, **extra)


def mac(*arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    words = list(map(str, arguments))
    if command.may_fork(*words):
        done = zygote.shared(zygote.DARWIN_PATH).run(*arguments, environment=extra)
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
    return subprocess.run(
        [*command.GYMDBD, *words],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def mac_json(*arguments: object, **extra: str) -> tuple[int, dict[str, Any]]:
    """Run the command line with --json; return its exit code and the one object it printed."""
    done = mac(*arguments, "--json", **extra)
    try:
        return done.returncode, dict(json.loads(done.stdout))
    except ValueError:
        raise AssertionError(f"no JSON: {done.stdout!r} {done.stderr!r}") from None

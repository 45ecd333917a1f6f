"""Other tests hold in a double of a Mac as well: a sample of them on a push, all with --all."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from tests.support import samples
from tests.support.command import ROOT
from tests.support.mac import environment

# Modules whose tests need nothing that only Linux has, such as /proc, leases, copies by the kernel.
_UNIT = (
    *("belonging", "catalog", "clock", "delta", "difference", "gates", "help", "lock", "log"),
    *("manifest", "marks", "retention", "schedule"),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", samples.sample(_UNIT, "unit tests on a Mac", 2))
def test_the_tests_of_a_module_pass(name: str) -> None:
    """What a module promises, it promises on a Mac."""
    inherited = environment()
    # The name of a socket may have a hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="mac-") as folder:
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", f"{folder}/in"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, f"tests/unit/test_{name}.py"],
            cwd=ROOT,
            env={key: value for key, value in inherited.items() if not key.startswith("PYTEST_")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5000:]

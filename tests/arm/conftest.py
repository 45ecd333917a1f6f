"""The Pi's processors are emulated with `tests/run --all` only: it takes half an hour for each."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.arm import emulated
from tests.support import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.arm.emulated import Arm

collect_ignore_glob = [] if samples.EVERYTHING else ["test_*.py"]


@pytest.fixture(scope="module", params=emulated.MACHINES)
def arm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm]:
    """Give a machine with the checkout and its wheels in /home/pi, and nothing installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in emulated.PROGRAMS if shutil.which(name, path=path) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"emulating a machine needs root and {', '.join(lacking or emulated.PROGRAMS)}")
    folder = tmp_path_factory.mktemp(request.param)
    with emulated.machine(request.param, folder / "machine") as there:
        emulated.unpack(there, folder)
        yield there

"""What the tests of faults share, and the table at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import scenes, table
from tests.support import samples
from tests.support.sshd import SshServer
from tests.support.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.scenes import Operation, Scene


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Run the process of which every run is a fork."""
    with Zygote(tmp_path_factory.mktemp("zygote")) as zygote:
        yield zygote


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """Run one SSH server for all pulls."""
    with SshServer(tmp_path_factory.mktemp("sshd"), config=("MaxStartups 100",)) as server:
        yield server


@pytest.fixture(scope="session")
def stage(
    tmp_path_factory: pytest.TempPathFactory, zygote: Zygote, sshd: SshServer
) -> Callable[[Operation], Scene]:
    """Give each operation its scene, as it is at the beginning; made once."""
    made: dict[str, Scene] = {}

    def get(operation: Operation) -> Scene:
        if operation.name not in made:
            folder = tmp_path_factory.mktemp(operation.name)
            scene = scenes.build(folder / "scene", zygote, sshd)
            scenes.begin(operation, scene)
            made[operation.name] = scene
        scene = made[operation.name]
        scenes.again(operation, scene)
        return scene

    return get


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this process has tried, if another one prints the table."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = table.to_report()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a process of the tests has tried; one that crashed reports nothing."""
    table.add_report(getattr(node, "workeroutput", {}).get("faults", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and leave it in a file that is not tracked."""
    if not any(one.tries for one in table.ROWS):
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(f"tried: {samples.DESCRIPTION}")
    terminalreporter.write_line(table.render())
    table.write(terminalreporter.config.rootpath / "tests" / "results")

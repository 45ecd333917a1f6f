"""The wheels that the Pi's processors need, as the registry has them."""

from __future__ import annotations

import pytest

from tests.e2e import tree

_SSH = {"paramiko", "cryptography", "pynacl"}


def _names(requirements: list[str]) -> set[str]:
    return {text.partition(">")[0].lower() for text in requirements}


@pytest.mark.parametrize("machine", ["aarch64", "armv7l"])
def test_every_dependency_has_a_wheel_for_the_pi(machine: str) -> None:
    """Above our lower bounds; what comes as source is one wheel for all processors."""
    folder = tree.wheels("gymdbd", tree.requirements(machine), machine)
    names = [path.name for path in folder.iterdir()]
    assert [name for name in names if not name.endswith(("-none-any.whl", f"_{machine}.whl"))] == []
    assert any(name.startswith("paramiko-") for name in names) == (machine == "aarch64")


@pytest.mark.parametrize("machine", ["armv6l", "armv7l", "armv8l"])
def test_32_bit_arm_is_asked_for_nothing_that_would_have_to_be_compiled(machine: str) -> None:
    """What speaks SSH, and zstd, are left out, and the extra names the first with equal bounds."""
    everywhere, here = tree.requirements("x86_64"), tree.requirements(machine)
    left_out = set(everywhere) - set(here)
    assert _names([*left_out]) == {*_SSH, "backports.zstd"}
    assert set(tree.requirements(machine, "ssh")) == {
        text for text in left_out if "zstd" not in text
    }

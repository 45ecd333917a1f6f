"""A peer over SSH, for the tests of pulls."""

from __future__ import annotations

from tests.integration.conftest import peer  # noqa: F401 - a fixture
from tests.support.sshd import ssh_home, ssh_server  # noqa: F401 - fixtures

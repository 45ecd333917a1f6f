"""What the tests of a pull begin with."""

from tests.integration.conftest import peer
from tests.support.sshd import ssh_home, ssh_server

__all__ = ["peer", "ssh_home", "ssh_server"]

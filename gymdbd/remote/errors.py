"""Errors of the other machine and the connection to it; `gymdbd.source.errors` has the base.

    RemoteError
    +- LibraryMissingError                this machine has no paramiko
    +- ShellNoiseError                    its shell's start-up files print into the stream
    +- PythonTooOldError                  its python3 is older than 3.9
    +- SshConfigError                     ~/.ssh/config, known_hosts or an override is unusable
    +- HostKeyUnknownError
    |  +- HostKeyChangedError
    +- AuthenticationError
    +- SshProtocolError                   the server does not speak SSH as we do
    +- ChannelRefusedError                no session, no SFTP or no forwarding for this key
    +- RemoteCommandError
    |  +- CommandMissingError             exit 127: no such command, for example no python3
    +- UnreachableError                   transient, and the run's state is `unreachable`
       +- HostNotFoundError
       +- ConnectRefusedError
       +- NoRouteError
       +- ConnectTimeoutError
       +- ProxyError                      the jump host or proxy command cannot reach the host

Errors that a serving side can raise as well are beside the base.
"""

from __future__ import annotations

from gymdbd.source.errors import RemoteError, UnreachableError


class LibraryMissingError(RemoteError, code="library-missing"):
    """No library that speaks SSH is installed on this machine, as perhaps on 32-bit ARM."""


class ShellNoiseError(RemoteError, code="shell-noise"):
    """The other side's shell prints something before the server starts."""


class PythonTooOldError(RemoteError, code="python-too-old"):
    """The other side's python3 is older than 3.9."""


class SshConfigError(RemoteError, code="ssh-config"):
    """The settings for the host, here or in `~/.ssh/config`, are invalid."""


class HostKeyUnknownError(RemoteError, code="host-key-unknown"):
    """No file of known hosts holds a key of this host."""


class HostKeyChangedError(HostKeyUnknownError, code="host-key-changed"):
    """The host presents another key than the known one, or a revoked key."""


class AuthenticationError(RemoteError, code="authentication"):
    """The host accepts none of our keys."""


class SshProtocolError(RemoteError, code="ssh-protocol"):
    """The server at the port does not speak SSH, or has no algorithm in common with us."""


class ChannelRefusedError(RemoteError, code="channel-refused"):
    """The host accepted the login and refused the session, SFTP or forwarding."""


class RemoteCommandError(RemoteError, code="remote-command"):
    """The command on the other machine ended before it was done."""


class CommandMissingError(RemoteCommandError, code="command-missing"):
    """The other machine has no such command."""


class HostNotFoundError(UnreachableError, code="host-not-found"):
    """The host's name has no address."""


class ConnectRefusedError(UnreachableError, code="connect-refused"):
    """The host is reachable, but nothing listens at the port."""


class NoRouteError(UnreachableError, code="no-route"):
    """The network has no route to the host, or the system forbids using it."""


class ConnectTimeoutError(UnreachableError, code="connect-timeout"):
    """The host did not answer in time."""


class ProxyError(UnreachableError, code="proxy"):
    """The jump host or the proxy command could not reach the host."""

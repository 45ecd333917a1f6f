"""Errors of the other machine and the connection to it; `gymdbd.source.errors` has the base.

    RemoteError
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


class ShellNoiseError(RemoteError):
    """The other side's shell prints something before the server starts."""

    code = "shell-noise"


class PythonTooOldError(RemoteError):
    """The other side's python3 is older than 3.9."""

    code = "python-too-old"


class SshConfigError(RemoteError):
    """The settings for the host, here or in `~/.ssh/config`, are invalid."""

    code = "ssh-config"


class HostKeyUnknownError(RemoteError):
    """No file of known hosts holds a key of this host."""

    code = "host-key-unknown"


class HostKeyChangedError(HostKeyUnknownError):
    """The host presents another key than the known one, or a revoked key."""

    code = "host-key-changed"


class AuthenticationError(RemoteError):
    """The host accepts none of our keys."""

    code = "authentication"


class SshProtocolError(RemoteError):
    """The server at the port does not speak SSH, or has no algorithm in common with us."""

    code = "ssh-protocol"


class ChannelRefusedError(RemoteError):
    """The host accepted the login and refused the session, SFTP or forwarding."""

    code = "channel-refused"


class RemoteCommandError(RemoteError):
    """The command on the other machine ended before it was done."""

    code = "remote-command"


class CommandMissingError(RemoteCommandError):
    """The other machine has no such command."""

    code = "command-missing"


class HostNotFoundError(UnreachableError):
    """The host's name has no address."""

    code = "host-not-found"


class ConnectRefusedError(UnreachableError):
    """The host is reachable, but nothing listens at the port."""

    code = "connect-refused"


class NoRouteError(UnreachableError):
    """The network has no route to the host, or the system forbids using it."""

    code = "no-route"


class ConnectTimeoutError(UnreachableError):
    """The host did not answer in time."""

    code = "connect-timeout"


class ProxyError(UnreachableError):
    """The jump host or the proxy command could not reach the host."""

    code = "proxy"

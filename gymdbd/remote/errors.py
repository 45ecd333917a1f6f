"""What can be wrong with another machine and the way to it; `gymdbd.source.errors` has the base.

    RemoteError
    +- ShellNoiseError                    its shell's start-up files print into our stream
    +- PythonTooOldError                  its python3 is older than 3.9
    +- SshConfigError                     ~/.ssh/config, known_hosts or an override is unusable
    +- HostKeyUnknownError
    |  +- HostKeyChangedError
    +- AuthenticationError
    +- SshProtocolError                   what answers does not speak SSH as we do
    +- ChannelRefusedError                no session, no SFTP or no forwarding for this key
    +- RemoteCommandError
    |  +- CommandMissingError             exit 127: no python3 over there
    +- UnreachableError                   transient, and the run's state is `unreachable`
       +- HostNotFoundError
       +- ConnectRefusedError
       +- NoRouteError
       +- ConnectTimeoutError
       +- ProxyError                      the jump host or proxy command gets no further

Those that a serving side can meet as well are with the base.
"""

from __future__ import annotations

from gymdbd.source.errors import RemoteError, UnreachableError


class ShellNoiseError(RemoteError):
    """The other side's shell prints something before our server gets to speak."""

    code = "shell-noise"


class PythonTooOldError(RemoteError):
    """The other side's python3 is older than 3.9."""

    code = "python-too-old"


class SshConfigError(RemoteError):
    """The settings for the host, here or in `~/.ssh/config`, cannot be used."""

    code = "ssh-config"


class HostKeyUnknownError(RemoteError):
    """No file of known hosts holds a key of this host."""

    code = "host-key-unknown"


class HostKeyChangedError(HostKeyUnknownError):
    """The host shows another key than the known one, or a revoked one."""

    code = "host-key-changed"


class AuthenticationError(RemoteError):
    """The host accepts none of our keys."""

    code = "authentication"


class SshProtocolError(RemoteError):
    """What answers at the port is not SSH, or has no algorithm in common with us."""

    code = "ssh-protocol"


class ChannelRefusedError(RemoteError):
    """The host let us in, and refuses the session, SFTP or forwarding that we asked for."""

    code = "channel-refused"


class RemoteCommandError(RemoteError):
    """The command on the other machine ended before it had done its work."""

    code = "remote-command"


class CommandMissingError(RemoteCommandError):
    """The other machine has no such command."""

    code = "command-missing"


class HostNotFoundError(UnreachableError):
    """The host's name has no address."""

    code = "host-not-found"


class ConnectRefusedError(UnreachableError):
    """The host is there, and nothing listens at the port."""

    code = "connect-refused"


class NoRouteError(UnreachableError):
    """The network has no way to the host, or the system forbids us to use it."""

    code = "no-route"


class ConnectTimeoutError(UnreachableError):
    """The host did not answer in time."""

    code = "connect-timeout"


class ProxyError(UnreachableError):
    """The jump host or the proxy command could not reach the host."""

    code = "proxy"

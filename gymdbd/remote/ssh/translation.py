"""Translates exceptions of paramiko and sockets into our errors; `TRANSLATIONS` lists them all."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, cast

import paramiko

from gymdbd.remote.ssh import faults
from gymdbd.remote.ssh.wire import lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.remote.ssh.target import Target
    from gymdbd.source.errors import GymdbdError

    Translation = Callable[[Exception, Target], GymdbdError]

# What paramiko, which does not check them, may raise at invalid bytes of an SFTP server.
STUMBLES = (ValueError, LookupError, TypeError, ArithmeticError, struct.error, MemoryError)


def garbled(error: Exception) -> paramiko.SSHException:
    """Build the exception for bytes of the peer that paramiko could not parse."""
    said = f"{type(error).__name__} {error}".strip()
    return paramiko.SSHException(f"what came is not what SSH sends: {said}")


def translate(error: Exception, goal: Target) -> GymdbdError:
    """Translate an exception of paramiko or of a socket into our error."""
    known = next(kind for kind in type(error).__mro__ if kind in TRANSLATIONS)
    return TRANSLATIONS[known](error, goal)


def _protocol(error: Exception, goal: Target) -> GymdbdError:
    return faults.incompatible(goal, str(error)[:200] or type(error).__name__)


def _login(error: Exception, goal: Target) -> GymdbdError:
    return faults.login_refused(goal, (), (), type(error).__name__)


def _broken(error: Exception, goal: Target) -> GymdbdError:
    return lost(goal.place, str(error))


def _refused(error: Exception, goal: Target) -> GymdbdError:
    return faults.channel_refused(goal, "the channel", str(error))


def _proxy(error: Exception, goal: Target) -> GymdbdError:
    del error  # It quotes the command.
    return faults.proxy_failed(goal, "")


def _host_key(error: Exception, goal: Target) -> GymdbdError:
    key = cast("paramiko.BadHostKeyException", error).key
    return faults.host_key_refused(goal, key.get_name(), key.asbytes(), ())


TRANSLATIONS: dict[type[Exception], Translation] = {
    paramiko.SSHException: _protocol,
    paramiko.ssh_exception.IncompatiblePeer: _protocol,
    paramiko.ssh_exception.MessageOrderError: _protocol,
    paramiko.SFTPError: _protocol,
    paramiko.pkey.UnknownKeyType: _protocol,
    paramiko.hostkeys.InvalidHostKey: _protocol,
    paramiko.AuthenticationException: _login,
    paramiko.PasswordRequiredException: _login,
    paramiko.BadAuthenticationType: _login,
    paramiko.ssh_exception.PartialAuthentication: _login,
    paramiko.ssh_exception.UnableToAuthenticate: _login,
    paramiko.auth_strategy.AuthFailure: _login,
    paramiko.BadHostKeyException: _host_key,
    paramiko.ChannelException: _refused,
    paramiko.ProxyCommandFailure: _proxy,
    paramiko.ssh_exception.ConfigParseError: _protocol,
    paramiko.ssh_exception.CouldNotCanonicalize: _protocol,
    paramiko.ssh_exception.NoValidConnectionsError: _broken,
    EOFError: _broken,
    OSError: _broken,
}

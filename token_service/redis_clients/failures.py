"""Descriptions of failures of Redis, without passwords, keys and values."""

from __future__ import annotations

import ssl
from asyncio import IncompleteReadError
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)

from token_service.errors import ConfigurationError

# With TLS 1.3 a server refuses a client after the handshake, so its alert may be lost with the connection.
_CLOSED: Final = (
    "the server closed the connection; if it always does: does the server want a client certificate, or TLS?"
)


class NoServerError(OSError):
    """No server was found. The text names the asked servers and their answers."""


def cause_of(error: BaseException) -> str:
    """Return what went wrong and, if it is known, what to do."""
    seen: BaseException | None = error
    while seen is not None:
        text = _known(seen)
        if text is not None:
            return text
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__


def _known(error: BaseException) -> str | None:
    match error:
        case ConfigurationError():
            return error.message
        case NoServerError():
            return str(error)
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of the server is refused: {error.verify_message}; "
                "trust its authority, and connect to a name or address in its certificate"
            )
        case ssl.SSLError():
            # An error that OpenSSL did not report has no attribute `reason`.
            reason = (getattr(error, "reason", None) or "TLS failed").lower().replace("_", " ")
            return f"TLS failed: {reason}; does the server want a client certificate, or no TLS at all?"
        case NoPermissionError():
            # Redis names the command only.
            return f"the user may not do this: {error}; give it the rules of the documentation"
        case AuthenticationError():
            return "the server refuses the user or the password"
        case MovedError():
            return "the server is a node of a Redis Cluster; write redis+cluster:// in the URL"
        case ClusterDownError():
            return "a part of the Redis Cluster has no master"
        case ReadOnlyError():
            return "the server is a replica; connect to the master, for example through Sentinel"
        case ResponseError() if "user executing the script can't" in str(error):
            return "the user may not run a command of our scripts, or use their keys; give it the rules of the documentation"
        case ConnectionResetError() | BrokenPipeError() | IncompleteReadError():
            return _CLOSED
        case _ if "Connection closed by server" in str(error):
            return _CLOSED
        case ConnectionRefusedError():
            return "no server listens at its address"
        case TimeoutError():
            return "no answer in time"
        case _:
            return None

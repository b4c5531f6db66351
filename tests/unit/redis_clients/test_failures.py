"""Failures of Redis are described by their cause, wherever it is in the chain of errors."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from redis import exceptions

from token_service.redis_clients.failures import cause_of


def caused_by(cause: BaseException) -> Exception:
    error = exceptions.ConnectionError("Error while reading from a server")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        caused_by(ConnectionResetError(104, "Connection reset by peer")),
        caused_by(BrokenPipeError()),
        caused_by(asyncio.IncompleteReadError(b"", 1)),
        exceptions.ConnectionError("Connection closed by server."),
    ],
)
def test_closed_connection_names_what_the_server_may_want(error: Exception) -> None:
    assert "does the server want a client certificate" in cause_of(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (caused_by(ConnectionRefusedError()), "no server listens"),
        (caused_by(TimeoutError()), "no answer in time"),
        (caused_by(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong")), "TLS failed"),
        (exceptions.AuthenticationError("WRONGPASS for secret"), "refuses the user or the password"),
        (exceptions.NoPermissionError("no permissions to run the 'xadd' command"), "xadd"),
        (exceptions.ReadOnlyError("READONLY"), "is a replica"),
        (exceptions.MovedError("1234 127.0.0.1:7000"), "Redis Cluster"),
        (exceptions.ConnectionError("password=secret"), "ConnectionError"),
    ],
)
def test_cause_is_named_without_secrets(error: Exception, words: str) -> None:
    text = cause_of(error)
    assert words in text
    assert "secret" not in text

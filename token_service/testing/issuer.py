"""A fake issuer: makes tokens, publishes its keys, and revokes, over gRPC on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

import grpc

from token_service.client.config import ServiceIssuer
from token_service.testing.log import RevocationLog, key_set_of
from token_service.testing.servicer import Keys, Sessions, Tokens
from token_service.testing.tokens import TokenMaker
from token_service.testing.validators import FRESHNESS, ValidatorsMixin
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind
from token_service.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from token_service.v1.token_service_pb2 import Revocation
from token_service.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

DEFAULT_ISSUER: Final = "https://issuer.test"
_MAX_CALLS: Final = 128
"""Threads of the server. Each stream of a validator keeps one."""
_SETTLE: Final = 10.0


class FakeIssuer(ValidatorsMixin, TokenMaker):
    """An issuer for tests. Its validators are real: they verify its tokens and follow its revocations.

    It listens on loopback from `start`, or in a `with` block. It needs no database and no files, and starts in
    milliseconds. Every restart of a test process has other keys.
    """

    def __init__(self, issuer: str = DEFAULT_ISSUER, *, algorithm: Algorithm | str = Algorithm.ES256) -> None:
        super().__init__(issuer, algorithm=algorithm, revision=lambda: self._log.head)
        self._log = RevocationLog(lambda: key_set_of(self.issuer, len(self.keys), self.jwks))
        self._sessions = Sessions()
        self._tokens = Tokens(self, self._log, self._sessions)
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def target(self) -> str:
        """`host:port` of its gRPC server. Raises `RuntimeError` before `start`."""
        if not self._port:
            raise RuntimeError("the fake issuer was not started: use it in a `with` block, or call start()")
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen on a free port of loopback. Raises `RuntimeError` if no port can be bound."""
        self._threads = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="fake-issuer")
        self._server = grpc.server(self._threads)
        add_TokenServiceServicer_to_server(self._tokens, self._server)
        add_KeyServiceServicer_to_server(Keys(self, self._log), self._server)  # type: ignore[abstract]  # the rest is UNIMPLEMENTED
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        """Stop to listen, and end all streams."""
        server, threads, self._server, self._threads = self._server, self._threads, None, None
        if server is not None and threads is not None:
            self._log.end_streams()
            server.stop(grace=0).wait()
            threads.shutdown()

    def service_issuer(self, **changes: Any) -> ServiceIssuer:
        """Return the configuration of a validator for this issuer. Keywords replace fields of `ServiceIssuer`."""
        config = ServiceIssuer(
            issuer=self.issuer,
            target=self.target,
            algorithms=frozenset({self.algorithm}),
            token_kinds=frozenset({TokenKind.ACCESS, TokenKind.TRANSACTION}),
            freshness=FRESHNESS,
        )
        return replace(config, **changes)

    def rotate(self) -> None:
        """Sign with a new key, and send it to all validators. Tokens of the earlier keys stay valid."""
        super().rotate()
        self._log.wake()

    def revoke(
        self,
        *,
        token: str = "",
        token_id: str = "",
        session_id: str = "",
        subject: str = "",
        client_id: str = "",
        key_id: str = "",
        everything: bool = False,
        wait: bool = True,
    ) -> None:
        """Revoke one target.

        With `wait`, returns once every connected validator has applied the revocation. Raises `ValueError` unless exactly
        one target is given, `InvalidTokenError` for a token that is not of this issuer, and `TimeoutError` if a validator
        has not applied it within ten seconds.
        """
        targets = {
            "token": token,
            "token_id": token_id,
            "session_id": session_id,
            "subject": subject,
            "client_id": client_id,
            "key_id": key_id,
            "everything": everything,
        }
        given = {name: value for name, value in targets.items() if value}
        if len(given) != 1:
            raise ValueError(f"revoke() takes exactly one of {', '.join(targets)}")
        entry = Revocation()
        if token:
            self._tokens.name_token(entry, token)
        else:
            name, value = given.popitem()
            setattr(entry, name, value)
        if session_id:
            self._sessions.revoke(session_id)
        sequence = self._log.append(entry)
        if wait:
            connected, applied = self._log.wait_until_applied(sequence, _SETTLE)
            if applied < connected:
                raise TimeoutError(
                    f"{connected - applied} of {connected} validators have not applied the revocation in {_SETTLE:g} s"
                )

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Refuse every call and end every stream inside the block, as a token service that is down.

        A validator rejects tokens as stale once its last proof of freshness is older than `Freshness.bound`.
        """
        self._log.is_out = True
        self._log.end_streams()
        try:
            yield
        finally:
            self._log.is_out = False

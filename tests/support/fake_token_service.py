"""A token service in this process whose failures a test controls.

It keeps a log and answers as the real service does, from threads, so that tests can use it with event loops and with
threads:

    with FakeTokenService() as service:
        token = service.mint.token(time.time())
        service.revoke(token_id="token-1")
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.ports import free_port, release_port
from tests.support.token_mint import Mint
from token_service.client._internal.following.messages import revocation_of
from token_service.errors import (
    InvalidTokenError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ServiceError,
    StoreUnavailableError,
    UnreachableError,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.dpop import verify_proof
from token_service.tokens.key_set import KeySet
from token_service.tokens.revocation_set import RevocationSet
from token_service.tokens.verifier import IssuerRules, Verifier, check_audience, check_scopes, check_times
from token_service.v1 import key_service_pb2, token_service_pb2
from token_service.v1.key_service_pb2_grpc import KeyServiceServicer, add_KeyServiceServicer_to_server
from token_service.v1.token_service_pb2_grpc import TokenServiceServicer, add_TokenServiceServicer_to_server
from token_service.wire import error_to_status

_REMEMBER = 3900


def timestamp(seconds: float) -> Timestamp:
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))


class FakeTokenService:
    """All switches are plain attributes. Set several under `changing()` if a stream should see them together."""

    def __init__(
        self, *, epoch: str = "epoch-one", credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self.credentials = credentials
        """TLS credentials from the next `start`; None: no TLS."""
        self.mint = Mint("ES256")
        self.epoch = epoch
        self.log: list[token_service_pb2.Revocation] = []
        self.jwks = [self.mint.jwk]
        self.key_revision = 1
        self.issuer = self.mint.issuer
        self.compacted = 0
        """Cursors below this sequence get a snapshot."""
        self.visible: int | None = None
        """Sequence up to which streams see the log, as on a node that lags behind. None: the whole log."""
        self.hold_streams = False
        """Streams stay open and send nothing."""
        self.hold_snapshots = False
        """Snapshots begin but do not end."""
        self.refuse_streams = False
        self.refuse_probes = False
        self.refuse_unary = False
        """ValidateToken and GetKeySet fail with UNAVAILABLE."""
        self.probe_delay = 0.0
        """Seconds by which an answer to ConfirmRevocations is delayed after the head was read."""
        self.remote_gate = threading.Event()
        """While not set, answers of ValidateToken are delayed after the token was judged."""
        self.remote_gate.set()
        self.lose_refreshes = 0
        """Number of answers to RefreshToken, after the rotation, or to IssueToken that get lost."""
        self.refuse_refreshes: ServiceError | None = None
        self.refresh_gate = threading.Event()
        """While not set, RefreshToken and IssueToken do not answer."""
        self.refresh_gate.set()
        self.access_ttl = 900.0
        self.scripted: list[token_service_pb2.StreamRevocationsResponse] = []
        """Messages that the next stream sends first."""
        self.stream_requests: list[token_service_pb2.StreamRevocationsRequest] = []
        self.probes: list[token_service_pb2.ConfirmRevocationsRequest] = []
        self.answered_probes: list[token_service_pb2.ConfirmRevocationsRequest] = []
        self.remote_calls: list[token_service_pb2.ValidateTokenRequest] = []
        """Calls of ValidateToken whose token has been judged."""
        self.key_set_calls = 0
        self.refresh_calls: list[token_service_pb2.RefreshTokenRequest] = []
        self.issue_calls: list[token_service_pb2.IssueTokenRequest] = []
        self.generation = 0
        self._changed = threading.Condition()
        self._ending = 0
        self._open = 0
        self._port = 0
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        self._port = free_port()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        release_port(self._port)

    @property
    def address(self) -> str:
        """`host:port`, stable over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    def open_streams(self) -> int:
        return self._open

    def start(self) -> None:
        """Start to listen."""
        server = grpc.server(ThreadPoolExecutor(max_workers=64))
        add_TokenServiceServicer_to_server(_Tokens(self), server)  # type: ignore[abstract]  # no other method is called
        add_KeyServiceServicer_to_server(_Keys(self), server)  # type: ignore[abstract]  # likewise
        if self.credentials is None:
            server.add_insecure_port(self.address)
        else:
            server.add_secure_port(self.address, self.credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Stop, with every stream and connection."""
        self.end_streams()
        if self._server is not None:
            self._server.stop(grace=None).wait(10)
            self._server = None

    def end_streams(self) -> None:
        """End all open streams, as the real service does with old ones."""
        with self._changed:
            self._ending += 1
            self._changed.notify_all()

    def changing(self) -> threading.Condition:
        """Return the condition for `with service.changing(): …; service.changed()`."""
        return self._changed

    def changed(self) -> None:
        """Wake up the streams."""
        with self._changed:
            self._changed.notify_all()

    @property
    def head(self) -> str:
        return f"{self.epoch}:{len(self.log)}"

    def revoke(self, *, expiry: float | None = None, age: float = 0.0, **target: Any) -> float:
        """Append an entry and return when it was acknowledged (`time.monotonic`)."""
        now = time.time() - age
        entry = token_service_pb2.Revocation(
            revoke_time=timestamp(now), expire_time=timestamp(now + _REMEMBER), **target
        )
        if expiry is not None:
            entry.token_expire_time.seconds = int(expiry)
        with self._changed:
            entry.sequence = len(self.log) + 1
            self.log.append(entry)
            self._changed.notify_all()
        return time.monotonic()

    def rotate_keys(self, *jwks: dict[str, Any]) -> None:
        """Publish another key set."""
        with self._changed:
            self.jwks = list(jwks)
            self.key_revision += 1
            self._changed.notify_all()

    def key_set(self) -> key_service_pb2.KeySet:
        keys = [key_service_pb2.JsonWebKey(**jwk) for jwk in self.jwks]
        return key_service_pb2.KeySet(revision=self.key_revision, keys=keys, issuer=self.issuer)

    def judge(
        self, request: token_service_pb2.ValidateTokenRequest
    ) -> token_service_pb2.ValidateTokenResponse:
        """Validate as ValidateToken with CONSISTENCY_STRONG does."""
        response = token_service_pb2.ValidateTokenResponse(cursor=self.head)
        try:
            rules = IssuerRules(self.issuer, frozenset(Algorithm))
            claims = Verifier([(rules, KeySet.from_jwks(self.jwks))]).verify(request.token)
            check_times(claims, time.time())
            if request.audience:
                check_audience(claims, request.audience)
            revocations = RevocationSet()
            for entry in self.log:
                revocations.apply(revocation_of(entry))
            if revocations.find(claims) is not None:
                response.reason = token_service_pb2.INVALID_REASON_REVOKED
                return response
            check_scopes(claims, request.required_scopes)
        except InvalidTokenError as error:
            name = f"INVALID_REASON_{error.reason.value}"
            response.MergeFrom(token_service_pb2.ValidateTokenResponse(reason=name))
            return response
        response.active = True
        return response

    def issue(self, request: token_service_pb2.IssueTokenRequest) -> token_service_pb2.IssueTokenResponse:
        """Issue an access token. Raises `ServiceError`, as the switches say."""
        self.issue_calls.append(request)
        number = len(self.issue_calls)
        self.refresh_gate.wait(60)
        if self.refuse_refreshes is not None:
            raise self.refuse_refreshes
        if self.lose_refreshes > 0:
            self.lose_refreshes -= 1
            raise UnreachableError("the answer was lost")
        now = time.time()
        return token_service_pb2.IssueTokenResponse(
            access_token=self.mint.token(now, exp=int(now + self.access_ttl), jti=f"issued-{number}"),
            token_type="Bearer",
            access_token_expire_time=timestamp(now + self.access_ttl),
            scopes=request.scopes,
        )

    def stream(
        self, request: token_service_pb2.StreamRevocationsRequest, context: grpc.ServicerContext
    ) -> Iterator[token_service_pb2.StreamRevocationsResponse]:
        with self._changed:
            self.stream_requests.append(request)
            ending, scripted, self.scripted = self._ending, self.scripted, []
            self._open += 1
        try:
            if self.refuse_streams:
                _abort(context, StoreUnavailableError())
            yield from scripted
            yield from self._follow(request.cursor, ending, context)
        finally:
            with self._changed:
                self._open -= 1

    def _follow(
        self, cursor: str, ending: int, context: grpc.ServicerContext
    ) -> Iterator[token_service_pb2.StreamRevocationsResponse]:
        epoch, _, sequence = cursor.partition(":")
        position = int(sequence or -1)
        keys = -1
        told = False
        while context.is_active():
            with self._changed:
                if self._ending != ending:
                    return
                if self.hold_streams:
                    self._changed.wait(0.2)
                    continue
                head = len(self.log) if self.visible is None else min(self.visible, len(self.log))
                message = token_service_pb2.StreamRevocationsResponse()
                if epoch != self.epoch or not self.compacted <= position <= head:
                    snapshot = RevocationSet()
                    for entry in self.log[:head]:
                        snapshot.apply(revocation_of(entry))
                    message.reset = True
                    for block in snapshot.blocks():
                        part = message.snapshot_blocks.add(
                            target=int(block.target), bucket=block.bucket, fingerprints=block.fingerprints
                        )
                        part.expire_time.CopyFrom(timestamp(block.expire_time))
                    named = {"subject", "client_id", "key_id", "everything"}
                    message.revocations.extend(e for e in self.log[:head] if e.WhichOneof("target") in named)
                    if self.hold_snapshots:
                        hold = True
                    else:
                        hold = False
                        epoch, position = self.epoch, head
                elif position < head:
                    hold = False
                    message.revocations.extend(self.log[position:head])
                    position = head
                elif keys != self.key_revision or not told:
                    hold = False
                else:
                    self._changed.wait(0.2)
                    continue
                if keys != self.key_revision:
                    keys = self.key_revision
                    message.key_set.CopyFrom(self.key_set())
                if not hold:
                    message.cursor = f"{epoch}:{position}"
                    message.caught_up = told = position == len(self.log)
            yield message
            while hold and self.hold_snapshots and self._ending == ending and context.is_active():
                time.sleep(0.01)


class _Tokens(TokenServiceServicer):
    def __init__(self, fake: FakeTokenService) -> None:
        self._fake = fake

    def StreamRevocations(self, request: Any, context: Any) -> Any:
        return self._fake.stream(request, context)

    def ConfirmRevocations(self, request: Any, context: Any) -> Any:
        fake = self._fake
        fake.probes.append(request)
        if fake.refuse_probes:
            _abort(context, StoreUnavailableError())
        answer = token_service_pb2.ConfirmRevocationsResponse(head_cursor=fake.head)
        time.sleep(fake.probe_delay)
        fake.answered_probes.append(request)
        return answer

    def ValidateToken(self, request: Any, context: Any) -> Any:
        fake = self._fake
        answer = fake.judge(request)
        fake.remote_calls.append(request)
        if fake.refuse_unary:
            _abort(context, StoreUnavailableError())
        fake.remote_gate.wait(60)
        return answer

    def IssueToken(self, request: Any, context: Any) -> Any:
        try:
            return self._fake.issue(request)
        except ServiceError as error:
            _abort(context, error)

    def RefreshToken(self, request: Any, context: Any) -> Any:
        fake = self._fake
        fake.refresh_calls.append(request)
        fake.refresh_gate.wait(60)
        if fake.refuse_refreshes is not None:
            _abort(context, fake.refuse_refreshes)
        name, _, generation = request.refresh_token.partition("-")
        if name != "refresh" or not generation.isdecimal() or int(generation) > fake.generation:
            _abort(context, RefreshTokenInvalidError())
        if int(generation) < fake.generation - 1:
            _abort(context, RefreshTokenReusedError())
        fake.generation = int(generation) + 1
        if fake.lose_refreshes > 0:
            fake.lose_refreshes -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        now = time.time()
        bound: dict[str, Any] = {}
        if request.HasField("binding"):
            binding = request.binding
            proof = verify_proof(
                binding.dpop_proof, method=binding.http_method, uri=binding.http_uri, access_token=None
            )
            bound["cnf"] = {"jkt": proof.jkt}
        return token_service_pb2.RefreshTokenResponse(
            access_token=fake.mint.token(now, exp=int(now + fake.access_ttl), **bound),
            token_type="DPoP" if bound else "Bearer",
            access_token_expire_time=timestamp(now + fake.access_ttl),
            refresh_token=f"refresh-{fake.generation}",
            refresh_token_expire_time=timestamp(now + 86400),
            scopes=["read", "write"],
        )


class _Keys(KeyServiceServicer):
    def __init__(self, fake: FakeTokenService) -> None:
        self._fake = fake

    def GetKeySet(self, request: Any, context: Any) -> Any:
        fake = self._fake
        fake.key_set_calls += 1
        if fake.refuse_unary:
            _abort(context, StoreUnavailableError())
        return key_service_pb2.GetKeySetResponse(key_set=fake.key_set())


def _abort(context: Any, error: ServiceError) -> None:
    code, details, trailers = error_to_status(error)
    context.set_trailing_metadata(trailers)
    context.abort(code, details)

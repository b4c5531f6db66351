"""The gRPC methods of the fake issuer. They behave as those of the token service; protos/ describes them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc

from token_service.errors import (
    InvalidTokenError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ServiceError,
    SessionRevokedError,
    StoreUnavailableError,
)
from token_service.testing.log import RevocationLog, key_set_of, timestamp
from token_service.testing.tokens import TokenMaker
from token_service.tokens.base64url import encode
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.key_set import KeySet
from token_service.tokens.verifier import IssuerRules, Verifier, check_audience, check_scopes, check_times
from token_service.v1 import token_service_pb2 as pb
from token_service.v1.key_service_pb2 import GetKeySetResponse
from token_service.v1.key_service_pb2_grpc import KeyServiceServicer
from token_service.v1.token_pb2 import TOKEN_TYPE_TRANSACTION, Claims
from token_service.v1.token_service_pb2_grpc import TokenServiceServicer
from token_service.wire import error_to_status

_KINDS: Final = frozenset({TokenKind.ACCESS, TokenKind.ID, TokenKind.TRANSACTION})
_LIFETIME: Final = 300
_SESSION_LIFETIME: Final = 86_400


@dataclass(slots=True)
class _Session:
    """A session, which only knows the names of its current and its previous refresh token."""

    session_id: str
    subject: str
    client_id: str
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    current: str = ""
    previous: str = ""
    is_revoked: bool = False


class Sessions:
    """Refresh tokens, rotated on every use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_token: dict[str, _Session] = {}

    def open(
        self, subject: str, client_id: str, audience: tuple[str, ...], scopes: tuple[str, ...]
    ) -> _Session:
        """Open a session."""
        session = _Session(encode(secrets.token_bytes(16)), subject, client_id, audience, scopes)
        with self._lock:
            self._rotate(session)
        return session

    def refresh(self, token: str) -> _Session:
        """Exchange a refresh token. Raises the errors of RefreshToken.

        The previous token gets the same answer again, as in the grace window of the token service. An older one
        ends the session.
        """
        with self._lock:
            session = self._by_token.get(token)
            if session is None:
                raise RefreshTokenInvalidError
            if session.is_revoked:
                raise SessionRevokedError
            if token == session.current:
                self._rotate(session)
            elif token != session.previous:
                session.is_revoked = True
                raise RefreshTokenReusedError
            return session

    def revoke(self, session_id: str) -> None:
        """End a session."""
        for session in tuple(self._by_token.values()):
            session.is_revoked |= session.session_id == session_id

    def _rotate(self, session: _Session) -> None:
        session.previous, session.current = session.current, "rt_" + encode(secrets.token_bytes(32))
        self._by_token[session.current] = session


class Tokens(TokenServiceServicer):
    """The methods of TokenService."""

    def __init__(self, maker: TokenMaker, log: RevocationLog, sessions: Sessions) -> None:
        self._maker = maker
        self._log = log
        self._sessions = sessions

    def IssueToken(self, request: Any, context: Any) -> Any:
        """Issue an access token and a refresh token."""
        self._require_up(context)
        session = self._sessions.open(
            request.subject, request.client_id, tuple(request.audience) or ("api",), tuple(request.scopes)
        )
        return self._answer(pb.IssueTokenResponse, session)

    def RefreshToken(self, request: Any, context: Any) -> Any:
        """Exchange a refresh token."""
        self._require_up(context)
        try:
            session = self._sessions.refresh(request.refresh_token)
        except ServiceError as error:
            _abort(context, error)
        return self._answer(pb.RefreshTokenResponse, session)

    def ValidateToken(self, request: Any, context: Any) -> Any:
        """Judge a JWT."""
        self._require_up(context)
        response = pb.ValidateTokenResponse(cursor=self._log.cursor())
        try:
            claims = self.verify(request.token)
            check_times(claims, time.time())
            if (claims.kind is TokenKind.TRANSACTION) != (request.token_type_hint == TOKEN_TYPE_TRANSACTION):
                response.reason = pb.INVALID_REASON_WRONG_TYPE
                return response
            if request.audience:
                check_audience(claims, request.audience)
            if self._log.revokes(claims):
                response.reason = pb.INVALID_REASON_REVOKED
                return response
            check_scopes(claims, request.required_scopes)
        except InvalidTokenError as error:
            return pb.ValidateTokenResponse(
                reason=f"INVALID_REASON_{error.reason.value}", cursor=response.cursor
            )
        response.active = True
        response.claims.CopyFrom(
            Claims(
                token_id=claims.token_id,
                session_id=claims.session_id,
                issuer=claims.issuer,
                subject=claims.subject,
                audience=claims.audience,
                client_id=claims.client_id,
                scopes=sorted(claims.scopes),
                expire_time=timestamp(claims.expire_time),
            )
        )
        return response

    def BatchValidateTokens(self, request: Any, context: Any) -> Any:
        """Judge several JWTs."""
        return pb.BatchValidateTokensResponse(
            responses=[self.ValidateToken(each, context) for each in request.requests]
        )

    def RevokeToken(self, request: Any, context: Any) -> Any:
        """Revoke a target, and wait for the followers on request."""
        self._require_up(context)
        entry = pb.Revocation(reason=request.reason)
        name = request.WhichOneof("target")
        if name == "token":
            self.name_token(entry, request.token)
        elif name is not None:
            setattr(entry, name, getattr(request, name))
        sequence = self._log.append(entry)
        response = pb.RevokeTokenResponse(cursor=self._log.cursor(sequence))
        if request.wait.applied_by_all:
            timeout = request.wait.timeout.ToMilliseconds() / 1000 or 5.0
            connected, applied = self._log.wait_until_applied(sequence, timeout)
            response.subscribers_connected, response.subscribers_applied = connected, applied
        return response

    def StreamRevocations(self, request: Any, context: Any) -> Iterator[Any]:
        """Stream the log."""
        self._require_up(context)
        context.add_callback(self._log.wake)
        yield from self._log.follow(request.cursor, request.subscriber_id, context.is_active)

    def ConfirmRevocations(self, request: Any, context: Any) -> Any:
        """Return the head of the log."""
        self._require_up(context)
        self._log.confirm(request.subscriber_id, request.applied_cursor)
        return pb.ConfirmRevocationsResponse(head_cursor=self._log.cursor())

    def verify(self, token: str) -> VerifiedClaims:
        """Verify a token with the keys of the issuer. Raises `InvalidTokenError`."""
        rules = IssuerRules(self._maker.issuer, frozenset({self._maker.algorithm}), _KINDS)
        return Verifier([(rules, KeySet.from_jwks(self._maker.jwks))]).verify(token)

    def name_token(self, entry: pb.Revocation, token: str) -> None:
        """Fill an entry that revokes a token. A refresh token ends its session. Raises `InvalidTokenError`."""
        if token.startswith("rt_"):
            entry.session_id = self._sessions.refresh(token).session_id
            self._sessions.revoke(entry.session_id)
            return
        claims = self.verify(token)
        entry.token_id = claims.token_id
        entry.token_expire_time.CopyFrom(timestamp(int(claims.expire_time)))

    def _answer(self, kind: Any, session: _Session) -> Any:
        now = time.time()
        access = self._maker.access_token(
            subject=session.subject,
            client_id=session.client_id,
            audience=session.audience,
            scopes=session.scopes,
            session_id=session.session_id,
            lifetime=_LIFETIME,
        )
        return kind(
            access_token=access,
            token_type="Bearer",
            access_token_expire_time=timestamp(int(now) + _LIFETIME),
            refresh_token=session.current,
            refresh_token_expire_time=timestamp(now + _SESSION_LIFETIME),
            session_id=session.session_id,
            scopes=session.scopes,
        )

    def _require_up(self, context: Any) -> None:
        if self._log.is_out:
            _abort(context, StoreUnavailableError())


class Keys(KeyServiceServicer):
    """The methods of KeyService."""

    def __init__(self, maker: TokenMaker, log: RevocationLog) -> None:
        self._maker = maker
        self._log = log

    def GetKeySet(self, request: Any, context: Any) -> Any:
        """Return the key set."""
        if self._log.is_out:
            _abort(context, StoreUnavailableError())
        maker = self._maker
        return GetKeySetResponse(key_set=key_set_of(maker.issuer, len(maker.keys), maker.jwks))


def _abort(context: grpc.ServicerContext, error: ServiceError) -> NoReturn:
    code, details, trailers = error_to_status(error)
    context.set_trailing_metadata(trailers)
    context.abort(code, details)

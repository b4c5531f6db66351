"""The fake issuer: its tokens, flaws and revocations, judged by the real validators."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.support.deadline import eventually_sync
from token_service.client import (
    InvalidReason,
    InvalidTokenError,
    MemoryTokenStore,
    RefreshTokenReusedError,
    ReplicaStaleError,
    SyncTokenSource,
    SyncTokenValidator,
    TokenKind,
    Tokens,
)
from token_service.client.config import Freshness, WhenStale
from token_service.testing import FakeIssuer, Flaw
from token_service.v1.token_service_pb2 import (
    IssueTokenRequest,
    RefreshTokenRequest,
    RevokeTokenRequest,
    ValidateTokenRequest,
)
from token_service.v1.token_service_pb2_grpc import TokenServiceStub


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    with FakeIssuer() as issuer:
        yield issuer


def reason(validator: object, token: str) -> InvalidReason | None:
    try:
        validator.validate(token)  # type: ignore[attr-defined]
    except InvalidTokenError as error:
        return error.reason
    return None


def is_stale(validator: SyncTokenValidator, token: str) -> bool:
    try:
        validator.validate(token)
    except ReplicaStaleError:
        return True
    return False


def test_validator_reads_the_claims_of_an_access_token(issuer: FakeIssuer) -> None:
    token = issuer.access_token(
        subject="bob",
        client_id="shop",
        audience=["api", "other"],
        scopes=["read", "write"],
        session_id="s-1",
        claims={"roles": ["admin"]},
    )
    with issuer.validator("api") as validator:
        claims = validator.validate(token, required_scopes=["write"])
    assert (claims.subject, claims.client_id, claims.session_id) == ("bob", "shop", "s-1")
    assert claims.audience == ("api", "other")
    assert claims.custom_claims == {"roles": ["admin"]}
    assert claims.token_id


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256", "PS256"])
async def test_tokens_of_each_kind_and_algorithm_are_accepted(algorithm: str) -> None:
    with FakeIssuer(algorithm=algorithm) as issuer:
        kinds = frozenset({TokenKind.ACCESS, TokenKind.ID, TokenKind.TRANSACTION})
        async with issuer.async_validator(token_kinds=kinds) as validator:
            assert (await validator.validate(issuer.access_token())).kind is TokenKind.ACCESS
            assert (await validator.validate(issuer.id_token(nonce="n"))).kind is TokenKind.ID
            assert (await validator.validate(issuer.transaction_token())).kind is TokenKind.TRANSACTION


@pytest.mark.parametrize("flaw", Flaw, ids=lambda flaw: flaw.name)
def test_flawed_token_is_rejected_for_its_reason(issuer: FakeIssuer, flaw: Flaw) -> None:
    with issuer.validator("api") as validator:
        assert reason(validator, issuer.access_token()) is None
        assert reason(validator, issuer.flawed_token(flaw)) is flaw.reason


@pytest.mark.parametrize(
    "by", ["token", "token_id", "session_id", "subject", "client_id", "key_id", "everything"]
)
def test_revocation_has_reached_the_validator_when_revoke_returns(by: str) -> None:
    with FakeIssuer() as issuer, issuer.validator() as validator:
        token = issuer.access_token(session_id="s-1")
        claims = validator.validate(token)
        target = {
            "token": token,
            "token_id": claims.token_id,
            "session_id": "s-1",
            "subject": "alice",
            "client_id": "web",
            "key_id": issuer.key.key_id,
            "everything": True,
        }[by]
        issuer.revoke(**{by: target})  # type: ignore[arg-type]
        assert reason(validator, token) is InvalidReason.REVOKED
        if by in {"token", "token_id", "subject", "client_id", "everything"}:
            assert reason(validator, issuer.access_token(session_id="s-2")) is None  # issued after it


def test_validator_that_connects_later_gets_the_revocations_as_a_snapshot(issuer: FakeIssuer) -> None:
    revoked, subject = issuer.access_token(), issuer.access_token(subject="carol")
    issuer.revoke(token=revoked)
    issuer.revoke(subject="carol")
    with issuer.validator() as validator:
        assert reason(validator, revoked) is InvalidReason.REVOKED
        assert reason(validator, subject) is InvalidReason.REVOKED
        assert reason(validator, issuer.access_token()) is None


def test_new_key_is_known_at_once_and_old_tokens_stay_valid() -> None:
    with FakeIssuer() as issuer, issuer.validator() as validator:
        before = issuer.access_token()
        issuer.rotate()
        assert reason(validator, before) is None
        assert reason(validator, issuer.access_token()) is None


def test_outage_makes_a_validator_stale_and_its_end_makes_it_fresh_again() -> None:
    with FakeIssuer() as issuer:
        freshness = Freshness(bound=2.0, when_stale=(WhenStale.REJECT,))
        with issuer.validator(freshness=freshness) as validator:
            token = issuer.access_token()
            assert reason(validator, token) is None
            with issuer.outage():
                eventually_sync(lambda: is_stale(validator, token) or None)
            validator.wait_ready(timeout=10)
            assert reason(validator, token) is None


def test_generated_stubs_issue_refresh_validate_and_revoke(issuer: FakeIssuer) -> None:
    with grpc.insecure_channel(issuer.target) as channel:
        stub = TokenServiceStub(channel)
        issued = stub.IssueToken(
            IssueTokenRequest(subject="dora", client_id="web", audience=["api"], scopes=["read"])
        )
        judged = stub.ValidateToken(ValidateTokenRequest(token=issued.access_token, audience="api"))
        assert judged.active
        assert judged.claims.subject == "dora"
        assert not stub.ValidateToken(ValidateTokenRequest(token=issued.access_token, audience="x")).active
        source = SyncTokenSource(stub, client_id="web", store=MemoryTokenStore(Tokens.of(issued)))
        source.invalidate(source.token())
        renewed = source.tokens()
        assert renewed.refresh_token != issued.refresh_token
        stub.RevokeToken(RevokeTokenRequest(token=renewed.access_token))
        assert not stub.ValidateToken(ValidateTokenRequest(token=renewed.access_token)).active


def test_reused_refresh_token_ends_its_session(issuer: FakeIssuer) -> None:
    from token_service.wire import error_from_rpc

    with grpc.insecure_channel(issuer.target) as channel:
        stub = TokenServiceStub(channel)
        first = stub.IssueToken(IssueTokenRequest(subject="erin", client_id="web")).refresh_token
        second = stub.RefreshToken(RefreshTokenRequest(refresh_token=first, client_id="web")).refresh_token
        again = stub.RefreshToken(RefreshTokenRequest(refresh_token=first, client_id="web")).refresh_token
        assert again == second
        stub.RefreshToken(RefreshTokenRequest(refresh_token=second, client_id="web"))
        with pytest.raises(grpc.RpcError) as refused:
            stub.RefreshToken(RefreshTokenRequest(refresh_token=first, client_id="web"))
        assert isinstance(error_from_rpc(refused.value), RefreshTokenReusedError)


def test_revoke_names_exactly_one_target(issuer: FakeIssuer) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        issuer.revoke()
    with pytest.raises(ValueError, match="exactly one"):
        issuer.revoke(subject="a", client_id="b")
    with pytest.raises(InvalidTokenError):
        issuer.revoke(token="not-a-token")


def test_issuer_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="with"):
        FakeIssuer().service_issuer()

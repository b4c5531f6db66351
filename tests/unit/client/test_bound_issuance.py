"""A service's own tokens that are bound to a DPoP key."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest

from tests.support.fake_token_service import FakeTokenService
from tests.support.token_endpoint import TokenEndpoint
from token_service.client import ClientCredentials, DpopKey, IssuedByCall, Secret, SyncIssuingTokenSource
from token_service.client._internal.proving import is_bound, key_of
from token_service.errors import ProofNonceRequiredError
from token_service.tokens.dpop import DpopProof, verify_proof
from token_service.v1.token_service_pb2 import IssueTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

KEY = DpopKey.generate()
BOUND: tuple[int, dict[str, str], bytes] = (
    200,
    {},
    json.dumps({"access_token": "a.b.c", "token_type": "DPoP", "expires_in": 900, "scope": "read"}).encode(),
)


def nonce_required(nonce: str) -> tuple[int, dict[str, str], bytes]:
    return 400, {"DPoP-Nonce": nonce}, b'{"error": "use_dpop_nonce"}'


@pytest.fixture
def endpoint(service: FakeTokenService) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(service) as endpoint:
        yield endpoint


def credentials(endpoint: TokenEndpoint, key: DpopKey | None = KEY) -> ClientCredentials:
    return ClientCredentials(
        token_url=endpoint.url, client_id="worker", secret=Secret(b"secret"), dpop_key=key
    )


def sent(endpoint: TokenEndpoint) -> list[dict[str, str]]:
    return [{name.lower(): value for name, value in headers.items()} for _, headers in endpoint.requests]


def proofs(endpoint: TokenEndpoint) -> list[DpopProof]:
    return [
        verify_proof(headers["dpop"], method="POST", uri=endpoint.url, access_token=None)
        for headers in sent(endpoint)
    ]


def test_token_request_is_repeated_once_with_the_nonce(endpoint: TokenEndpoint) -> None:
    issuance = credentials(endpoint)
    endpoint.scripted = [nonce_required("one"), BOUND, BOUND, nonce_required("two"), BOUND]
    for _ in range(3):
        assert is_bound(issuance.obtain(10).tokens)
    made = proofs(endpoint)
    assert [proof.nonce for proof in made] == [None, "one", "one", "one", "two"]
    assert {proof.jkt for proof in made} == {KEY.jkt}
    assert len({proof.proof_id for proof in made}) == 5
    assert "one" not in repr(issuance)


def test_endpoint_that_always_asks_for_a_nonce_is_left(endpoint: TokenEndpoint) -> None:
    issuance = credentials(endpoint)
    endpoint.scripted = [nonce_required("one"), nonce_required("two"), nonce_required("two")]
    for _ in range(2):
        with pytest.raises(ProofNonceRequiredError):
            issuance.obtain(10)
    assert [proof.nonce for proof in proofs(endpoint)] == [None, "one", "two"]


def test_without_a_key_no_proof_is_sent(endpoint: TokenEndpoint) -> None:
    endpoint.scripted = [nonce_required("one"), BOUND]
    with pytest.raises(ProofNonceRequiredError):
        credentials(endpoint, None).obtain(10)
    assert [headers for headers in sent(endpoint) if "dpop" in headers] == []
    assert len(endpoint.requests) == 1


def test_source_has_the_key_of_its_issuance(endpoint: TokenEndpoint, service: FakeTokenService) -> None:
    assert key_of(SyncIssuingTokenSource(credentials(endpoint))) is KEY
    assert key_of(SyncIssuingTokenSource(credentials(endpoint, None))) is None
    with grpc.insecure_channel(service.address) as channel:
        request = IssueTokenRequest(subject="worker", client_id="worker")
        source = SyncIssuingTokenSource(IssuedByCall(TokenServiceStub(channel), request, KEY))
        assert key_of(source) is KEY
        source.token()
        source.close()
    assert [call.confirmation.jkt for call in service.issue_calls] == [KEY.jkt]
    assert not request.HasField("confirmation")

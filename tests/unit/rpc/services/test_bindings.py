"""Bound tokens over gRPC: `binding` of ValidateToken, BatchValidateTokens and RefreshToken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.unit.rpc.serving import TIMEOUT, Failure, Served, serving
from tests.unit.tokens.dpop_proofs import URI, ProofMaker
from token_service.v1 import token_pb2, token_service_pb2 as pb

ACCESS, REFRESH, SESSION = 1, 2, 4
THUMBPRINT = "c" * 43
CERTIFICATE = pb.Binding(certificate_thumbprint=THUMBPRINT)
MISSING = pb.INVALID_REASON_PROOF_MISSING
INVALID = pb.INVALID_REASON_PROOF_INVALID
WRONG = pb.INVALID_REASON_WRONG_KEY


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


class Holder:
    """The holder of tokens that are bound to a DPoP key."""

    def __init__(self, served: Served, issued: pb.IssueTokenResponse, maker: ProofMaker) -> None:
        self.served, self.issued, self.maker = served, issued, maker
        self.token = issued.access_token

    @classmethod
    async def of(cls, served: Served) -> Holder:
        maker = ProofMaker()
        issued = await served.issue(
            token_types=[ACCESS, REFRESH, SESSION], confirmation=token_pb2.Confirmation(jkt=maker.jkt)
        )
        return cls(served, issued, maker)

    def binding(self, maker: ProofMaker | None = None, **changes: Any) -> pb.Binding:
        """Return a binding with a new proof for a request to an API."""
        values = {"token": self.token, "now": self.served.node.clock.now(), **changes}
        return pb.Binding(dpop_proof=(maker or self.maker).proof(**values), http_method="GET", http_uri=URI)

    async def verdict(self, **fields: Any) -> Any:
        """Return the reason of ValidateToken for the access token; None if it is active."""
        answer = await self.served.validate(self.token, **fields)
        return None if answer.active else answer.reason

    async def refresh(self, **fields: Any) -> pb.RefreshTokenResponse:
        request = pb.RefreshTokenRequest(refresh_token=self.issued.refresh_token, client_id="web", **fields)
        answer: pb.RefreshTokenResponse = await self.served.tokens.RefreshToken(request, timeout=TIMEOUT)
        return answer


@pytest.fixture
async def holder(served: Served) -> Holder:
    return await Holder.of(served)


async def test_bound_token_is_active_with_a_proof_of_its_key(holder: Holder) -> None:
    assert await holder.verdict(binding=holder.binding()) is None
    assert await holder.verdict() == MISSING
    assert await holder.verdict(binding=CERTIFICATE) == MISSING
    assert await holder.verdict(binding=holder.binding(ProofMaker())) == WRONG
    assert await holder.verdict(caller_checks_binding=True) is None


@pytest.mark.parametrize(
    "changes",
    [{"ath": ...}, {"token": "other"}, {"uri": "https://api.example/other"}, {"method": "POST"}, {"now": 1.0}, {"pad": "x" * 9000}],
    ids=str,
)  # fmt: skip
async def test_proof_for_something_else_is_invalid(holder: Holder, changes: dict[str, Any]) -> None:
    assert await holder.verdict(binding=holder.binding(**changes)) == INVALID


@pytest.mark.parametrize("consistency", [pb.CONSISTENCY_LOCAL, pb.CONSISTENCY_STRONG])
async def test_proof_counts_once(holder: Holder, consistency: Any) -> None:
    # The response for the token is in memory, so the first request with the proof could be remembered, too.
    assert await holder.verdict(binding=holder.binding(), consistency=consistency) is None
    binding = holder.binding()
    verdicts = [await holder.verdict(binding=binding, consistency=consistency) for _ in range(4)]
    assert verdicts == [None, INVALID, INVALID, INVALID]


async def test_refused_token_does_not_use_up_the_proof(holder: Holder) -> None:
    binding = holder.binding()
    assert await holder.verdict(binding=binding, audience="elsewhere") == pb.INVALID_REASON_WRONG_AUDIENCE
    assert (
        await holder.verdict(binding=binding, required_scopes=["x"]) == pb.INVALID_REASON_INSUFFICIENT_SCOPE
    )
    assert await holder.verdict(binding=binding) is None


async def test_token_that_is_bound_to_a_certificate_needs_it(served: Served) -> None:
    issued = await served.issue(
        token_types=[ACCESS], confirmation=token_pb2.Confirmation(x5t_s256=THUMBPRINT)
    )
    for _ in range(3):  # the second answer is remembered, and the third one comes from memory
        assert (await served.validate(issued.access_token, binding=CERTIFICATE)).active
        for binding, reason in ((None, MISSING), (pb.Binding(certificate_thumbprint="d" * 43), WRONG)):
            answer = await served.validate(issued.access_token, binding=binding)
            assert (answer.active, answer.reason) == (False, reason)


async def test_session_and_refresh_tokens_of_a_bound_session_need_the_proof_too(holder: Holder) -> None:
    for token in (holder.issued.session_token, holder.issued.refresh_token):
        assert (await holder.served.validate(token)).reason == MISSING
        assert (await holder.served.validate(token, binding=holder.binding(token=token))).active
        assert (await holder.served.validate(token, caller_checks_binding=True)).active


async def test_bearer_token_needs_no_binding_and_ignores_one(holder: Holder) -> None:
    issued = await holder.served.issue(token_types=[ACCESS])
    for binding in (None, CERTIFICATE, holder.binding()):
        assert (await holder.served.validate(issued.access_token, binding=binding)).active


async def test_tokens_of_a_batch_are_judged_like_single_ones(holder: Holder) -> None:
    binding = holder.binding()
    bindings = [None, binding, binding, pb.Binding(dpop_proof="x", http_method="GET", http_uri=URI)]
    requests = [pb.ValidateTokenRequest(token=holder.token, binding=each) for each in bindings]
    answer = await holder.served.tokens.BatchValidateTokens(
        pb.BatchValidateTokensRequest(requests=requests), timeout=TIMEOUT
    )
    reasons = [None if each.active else each.reason for each in answer.responses]
    assert reasons == [MISSING, None, INVALID, INVALID]


@pytest.mark.parametrize(
    ("binding", "field"),
    [
        (pb.Binding(dpop_proof="x", http_method="GET"), "binding"),
        (pb.Binding(dpop_proof="x", http_uri=URI), "binding"),
        (pb.Binding(certificate_thumbprint="x"), "binding.certificate_thumbprint"),
    ],
)
async def test_incomplete_binding_is_a_mistake_of_the_caller(
    holder: Holder, binding: pb.Binding, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await holder.verdict(binding=binding)
    assert Failure(error.value).fields.keys() == {field}


async def test_refresh_token_of_a_bound_session_needs_the_proof_of_its_key(holder: Holder) -> None:
    def proof(maker: ProofMaker | None = None) -> pb.Binding:
        return holder.binding(maker, token=None)

    for binding, reason in (
        (None, "BINDING_REQUIRED"),
        (CERTIFICATE, "BINDING_REQUIRED"),
        (proof(ProofMaker()), "WRONG_KEY"),
        (pb.Binding(dpop_proof="x", http_method="GET", http_uri=URI), "PROOF_INVALID"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await holder.refresh(binding=binding)
        assert Failure(error.value).reason == reason
    first = await holder.refresh(binding=proof())
    assert first.token_type == "DPoP"
    # A retry within the grace period gets the same successor, with a proof of its own.
    assert (await holder.refresh(binding=proof())).refresh_token == first.refresh_token
    holder.token = first.access_token
    assert await holder.verdict(binding=holder.binding()) is None
    assert await holder.verdict() == MISSING


async def test_refresh_takes_a_proof_once(holder: Holder) -> None:
    binding = holder.binding(token=None)
    await holder.refresh(binding=binding)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await holder.refresh(binding=binding)
    assert Failure(error.value).reason == "PROOF_INVALID"


async def test_session_that_is_bound_to_a_certificate_is_refreshed_with_it(served: Served) -> None:
    issued = await served.issue(confirmation=token_pb2.Confirmation(x5t_s256=THUMBPRINT))
    request = pb.RefreshTokenRequest(refresh_token=issued.refresh_token, client_id="web")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.tokens.RefreshToken(request, timeout=TIMEOUT)
    assert Failure(error.value).reason == "BINDING_REQUIRED"
    request.binding.CopyFrom(CERTIFICATE)
    answer = await served.tokens.RefreshToken(request, timeout=TIMEOUT)
    assert answer.token_type == "Bearer"
    assert (await served.validate(answer.access_token)).reason == MISSING
    assert (await served.validate(answer.access_token, binding=CERTIFICATE)).active

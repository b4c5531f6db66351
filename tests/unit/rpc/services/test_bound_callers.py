"""Callers of gRPC that identify themselves with an access token of this service that is bound to a DPoP key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from tests.unit.rpc.serving import TIMEOUT, Failure, Served, serving
from tests.unit.tokens.dpop_proofs import ProofMaker
from token_service.app.access import _OwnTokens
from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller
from token_service.core.access.workloads import Workloads
from token_service.core.clients.client import AuthMethod, ClientMetadata
from token_service.core.issuing.commands import IssueCommand
from token_service.core.policies.rights import Permission, Right
from token_service.rpc.server.authorizer import Identify, TrustingAuthorizer
from token_service.rpc.server.proof_authorizer import ProofAuthorizer
from token_service.tokens.claims import Confirmation, TokenKind
from token_service.v1 import key_service_pb2 as pb

PATH = "/token_service.v1.KeyService/ListSigningKeys"
URI = f"https://tokens.internal:8443{PATH}"


class Late(TrustingAuthorizer):
    """An authorizer that is chosen after the server was made."""

    inner: ProofAuthorizer

    def identifier(self, method: str) -> Identify:
        return lambda call: self.inner.identifier(method)(call)  # noqa: PLW0108  # `inner` is set later


class Operator:
    """A client with an own token that is bound to its key."""

    def __init__(self, served: Served, maker: ProofMaker, token: str) -> None:
        self.served, self.maker, self.token = served, maker, token

    def proof(self, maker: ProofMaker | None = None, **changes: Any) -> str:
        values = {"token": self.token, "method": "POST", "uri": URI, "now": self.served.node.clock.now()}
        return (maker or self.maker).proof(**{**values, **changes})

    async def ask(self, *metadata: tuple[str, str]) -> Failure | None:
        """Return the failure of a call; None if it succeeded."""
        try:
            await self.served.keys.ListSigningKeys(
                pb.ListSigningKeysRequest(), metadata=metadata, timeout=TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            return Failure(error)
        return None

    async def why(self, *proofs: str, scheme: str = "DPoP") -> str:
        failure = await self.ask(
            ("authorization", f"{scheme} {self.token}"), *(("dpop", proof) for proof in proofs)
        )
        return "" if failure is None else failure.reason


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    authorizer = Late()
    async with serving(authorizer=authorizer) as served:
        core, maker = served.node.core, ProofMaker()
        issuer = core.options.issuer
        await core.client_administration.create(
            Caller.system(),
            "operator",
            ClientMetadata(
                token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC,
                rights=(Right(permission=Permission.ADMIN_READ),),
            ),
            0.0,
        )
        await core.clients.refresh()
        authentication: Any = None
        authenticator = Authenticator(
            core.clients,
            authentication,
            _OwnTokens(core.introspector, core.key_proofs, issuer),
            issuer=issuer,
            workloads=Workloads([], core.ports.clock),
            callers={},
        )
        authorizer.inner = ProofAuthorizer(authenticator, None, hosts=["tokens.internal"])
        issued = await core.issuer.issue(
            Caller.system(),
            IssueCommand(
                subject="operator",
                client_id="operator",
                audience=(issuer,),
                kinds=frozenset({TokenKind.ACCESS}),
                confirmation=Confirmation(jkt=maker.jkt),
            ),
            served.node.clock.now(),
        )
        yield Operator(served, maker, issued.access_token)


async def test_bound_token_with_its_proof_identifies_a_caller(operator: Operator) -> None:
    proof = operator.proof()
    assert await operator.why(proof) == ""
    assert await operator.why(proof) == "PROOF_INVALID"
    assert await operator.why(operator.proof(uri=f"https://tokens.internal{PATH}")) == ""


async def test_bound_token_without_its_proof_identifies_no_caller(operator: Operator) -> None:
    assert await operator.why() == "CALLER_UNAUTHENTICATED"
    assert await operator.why(scheme="Bearer") == "CALLER_UNAUTHENTICATED"
    assert await operator.why(operator.proof(), scheme="Bearer") == "CALLER_UNAUTHENTICATED"
    assert await operator.why(operator.proof(ProofMaker())) == "CALLER_UNAUTHENTICATED"
    assert await operator.why(operator.proof(), operator.proof()) == "PROOF_INVALID"


@pytest.mark.parametrize(
    "changes",
    [
        {"uri": f"https://attacker.example{PATH}"},
        {"uri": f"https://tokens.internal@attacker.example{PATH}"},
        {"uri": "https://tokens.internal/token_service.v1.KeyService/RevokeSigningKey"},
        {"uri": "https://tokens.internal"},
        {"uri": 7},
        {"method": "GET"},
        {"ath": ...},
    ],
    ids=str,
)
async def test_proof_for_another_server_or_method_is_refused(
    operator: Operator, changes: dict[str, Any]
) -> None:
    assert await operator.why(operator.proof(**changes)) == "PROOF_INVALID"


async def test_caller_is_given_a_nonce(operator: Operator) -> None:
    operator.served.node.policy = replace(operator.served.node.policy, dpop_nonces=True)
    failure = await operator.ask(("authorization", f"DPoP {operator.token}"), ("dpop", operator.proof()))
    assert failure is not None
    assert failure.reason == "PROOF_NONCE_REQUIRED"
    assert await operator.why(operator.proof(nonce=failure.metadata["dpop_nonce"])) == ""

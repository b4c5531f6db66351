"""At the token endpoint a client gets the scopes and audiences that it is registered for, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.node import ISSUER, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import (
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
    AuthMethod,
    Client,
    ClientMetadata,
)
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.registration import Registration
from token_service.core.policies.policy import Policy
from token_service.errors import (
    CallerUnauthenticatedError,
    ClientDisabledError,
    GrantTypeNotAllowedError,
    PolicyViolationError,
)
from token_service.tokens.algorithms import Algorithm

A, B, C = "https://a.example", "https://b.example", "https://c.example"


@pytest.fixture
async def node() -> Node[ManualClock]:
    return await Node(ManualClock(), max_staleness=1e12).start()


async def registered(node: Node, **metadata: Any) -> Client:
    values: dict[str, Any] = {
        "token_endpoint_auth_method": AuthMethod.CLIENT_SECRET_BASIC,
        "grant_types": (CLIENT_CREDENTIALS,),
        **metadata,
    }
    created = await node.core.client_administration.create(
        Caller.system(),
        "app",
        ClientMetadata(**values),
        node.clock.now(),
    )
    return created.client


def registration(node: Node) -> Registration:
    return Registration(
        ClientAdmission(
            node.clients, node.policies, require_registered=False, signs_with=lambda: Algorithm.ES256
        ),
        ISSUER,
    )


def caller(client_id: str = "app", proof: Proof = Proof.CLIENT_SECRET) -> Caller:
    return Caller(client_id, Rights(), proof, client_id=client_id)


@pytest.mark.parametrize(
    ("has", "asked", "granted"),
    [
        ((), (), ()),
        (("read", "write"), (), ("read", "write")),
        (("read", "write"), ("write",), ("write",)),
        (("read", "write"), ("write", "read", "write"), ("write", "read")),
        ((), ("read",), None),
        (("read",), ("read", "write"), None),
        (("read*",), ("read-all",), None),  # no patterns
        (("Read",), ("read",), None),
    ],
)
async def test_scopes_are_those_of_the_registration(
    node: Node, has: tuple[str, ...], asked: tuple[str, ...], granted: tuple[str, ...] | None
) -> None:
    client = await registered(node, scopes=has)
    if granted is None:
        with pytest.raises(PolicyViolationError) as refused:
            registration(node).scopes(client, asked)
        assert refused.value.metadata == {"field": "scopes"}
    else:
        assert registration(node).scopes(client, asked) == granted


@pytest.mark.parametrize(
    ("has", "default", "asked", "granted"),
    [
        ((), (), (), (ISSUER,)),
        ((), (), (ISSUER,), (ISSUER,)),
        ((), (), (A,), None),
        ((), (A, B), (), (A, B)),
        ((), (A, B), (B,), (B,)),
        ((), (A, B), (ISSUER,), None),
        ((A,), (), (), (A,)),
        ((A, B), (), (), None),  # it must name one
        ((A, B), (), (B, A, B), (B, A)),
        ((A, B), (), (ISSUER,), None),
        ((A, B), (A,), (), (A,)),
        ((A, B), (C,), (), None),  # the default of the policy is not registered
        ((A,), (C,), (), (A,)),
        ((A, B), (C,), (C,), None),
        ((A,), (), (f"{A}/",), None),
    ],
)
async def test_audience_is_that_of_the_request_the_policy_or_the_registration(
    node: Node,
    has: tuple[str, ...],
    default: tuple[str, ...],
    asked: tuple[str, ...],
    granted: tuple[str, ...] | None,
) -> None:
    client = await registered(node, audiences=has)
    node.policy = Policy(default_audience=default)
    if granted is None:
        with pytest.raises(PolicyViolationError) as refused:
            registration(node).audience(client, asked)
        assert refused.value.metadata == {"field": "audience"}
    else:
        assert registration(node).audience(client, asked) == granted


async def test_only_the_client_itself_is_admitted_and_only_to_its_grant_types(node: Node) -> None:
    client = await registered(node)
    assert registration(node).admit(caller(), CLIENT_CREDENTIALS) == client
    with pytest.raises(GrantTypeNotAllowedError) as refused:
        registration(node).admit(caller(), REFRESH_TOKEN)
    assert refused.value.metadata == {"grant_type": REFRESH_TOKEN}
    for other in (caller("unknown"), caller(""), Caller.system()):
        with pytest.raises(CallerUnauthenticatedError):
            registration(node).admit(other, CLIENT_CREDENTIALS)


async def test_grant_needs_a_proof_and_an_active_client_but_no_right(node: Node) -> None:
    await registered(node, scopes=("read",))
    grant = node.core.oauth.grants.client_credentials
    issued = await grant.grant(caller(), GrantRequest(), node.clock.now())
    assert (issued.scopes, issued.refresh_token, issued.session_id) == (("read",), "", "")
    with pytest.raises(GrantTypeNotAllowedError):
        await grant.grant(caller(proof=Proof.CLIENT_ID), GrantRequest(), node.clock.now())
    await node.core.client_administration.disable(Caller.system(), "app", node.clock.now())
    with pytest.raises(ClientDisabledError):  # disabled between its identification and the grant
        await grant.grant(caller(), GrantRequest(), node.clock.now())

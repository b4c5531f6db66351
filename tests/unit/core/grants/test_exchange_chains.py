"""Property: no chain of exchanges widens a token or loses its session and its actors."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from tests.unit.core.grants.exchanging import DOMAIN, SCOPES, Exchanging, claims
from tests.unit.core.jwts import claims_of
from token_service.core.grants.presented import ACCESS_TOKEN, TRANSACTION_TOKEN
from token_service.core.policies.rights import May, Permission, Right, matches
from token_service.errors import ServiceError

CLIENTS = ("web", "gateway", "billing")
AUDIENCES = ("orders", "mail", "inventory", DOMAIN)
REGISTERED = {"web": ("orders", "mail", DOMAIN), "gateway": (), "billing": (DOMAIN,)}

SOME = st.lists(st.sampled_from(AUDIENCES), max_size=2, unique=True).map(tuple)
SCOPE = st.lists(st.sampled_from(SCOPES), max_size=2, unique=True).map(tuple)
RIGHT = st.builds(
    Right,
    permission=st.just(Permission.EXCHANGE),
    clients=st.lists(st.sampled_from(CLIENTS), max_size=2, unique=True).map(tuple),
    audiences=SOME,
    scopes=SCOPE,
    token_types=st.sampled_from([(), ("access",), ("transaction",)]),
    may=st.sampled_from([(), (May.IMPERSONATE,)]),
)
STEP = st.fixed_dictionaries(
    {
        "client_id": st.sampled_from(CLIENTS),
        "rights": st.lists(RIGHT, max_size=2),
        "scopes": SCOPE,
        "audience": SOME,
        "transaction": st.booleans(),
        "with_actor": st.booleans(),
        "pause": st.integers(0, 120),
    }
)


def actors(token: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the actors of a token, the last one first."""
    found, act = [], token.get("act")
    while act is not None:
        found.append({name: value for name, value in act.items() if name != "act"})
        act = act.get("act")
    return found


def audience_of(token: dict[str, Any]) -> set[str]:
    aud = token["aud"]
    return {aud} if isinstance(aud, str) else set(aud)


def client_of(token: dict[str, Any]) -> str:
    client_id: str = token.get("client_id") or token["req_wl"]
    return client_id


async def follow(steps: list[dict[str, Any]]) -> int:
    """Exchange the token of a user step by step; return how many exchanges succeeded."""
    scene = await Exchanging.make()
    await scene.register("billing", audiences=(DOMAIN,))
    token = await scene.token()
    done = 0
    for step in steps:
        scene.node.clock.elapsed += step["pause"]
        before = claims_of(token)
        changes: dict[str, Any] = {}
        if step["with_actor"]:
            changes["actor_token"] = await scene.token(step["client_id"], "bob", audience=(DOMAIN,))
            changes["actor_token_type"] = ACCESS_TOKEN
        if step["transaction"]:
            changes["requested_token_type"] = TRANSACTION_TOKEN
        if "txn" in before:
            changes["subject_token_type"] = TRANSACTION_TOKEN
        try:
            exchanged = await scene.exchange(
                token,
                step["client_id"],
                *step["rights"],
                scopes=step["scopes"],
                audience=step["audience"],
                **changes,
            )
        except ServiceError:
            continue
        done += 1
        after, token = claims(exchanged), exchanged.tokens.access_token
        owner = client_of(before)
        assert (after["sub"], after["sid"]) == (before["sub"], before["sid"])
        assert client_of(after) == step["client_id"]
        assert set(after.get("scope", "").split()) <= set(before.get("scope", "").split())
        assert after["exp"] <= before["exp"]
        assert actors(before) == actors(after)[len(actors(after)) - len(actors(before)) :]
        assert len(actors(after)) <= 4
        if "txn" in before:
            assert (after["txn"], after["aud"]) == (before["txn"], before["aud"])
        held = audience_of(before)
        if step["transaction"] and "txn" not in before and REGISTERED[step["client_id"]]:
            held |= set(REGISTERED[step["client_id"]])
        admitting = [
            right
            for right in step["rights"]
            if matches(right.clients, owner)
            and all(matches(right.audiences, each) for each in audience_of(after))
        ]
        if owner != step["client_id"] or not audience_of(after) <= held:
            assert admitting
        if owner != step["client_id"] and len(actors(after)) == len(actors(before)) and "txn" not in after:
            assert any(right.unbounded or May.IMPERSONATE in right.may for right in admitting)
    return done


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=1, max_size=6))
def test_no_chain_of_exchanges_widens_a_token(steps: list[dict[str, Any]]) -> None:
    asyncio.run(follow(steps))


def test_chains_of_the_property_succeed() -> None:
    """The property would hold for a service that refuses everything."""
    everything = Right(permission=Permission.EXCHANGE, unbounded=True)
    step = {"rights": [everything], "scopes": (), "transaction": False, "with_actor": False, "pause": 10}
    steps: list[dict[str, Any]] = [
        {**step, "client_id": "gateway", "audience": ("inventory",), "with_actor": True},
        {**step, "client_id": "billing", "audience": ("mail",)},
        {**step, "client_id": "web", "audience": (DOMAIN,), "scopes": ("pay",), "transaction": True},
        {**step, "client_id": "gateway", "audience": (DOMAIN,), "scopes": ("pay",), "transaction": True},
    ]
    assert asyncio.run(follow(steps)) == len(steps)

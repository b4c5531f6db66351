"""`DeviceRequests` over every backend."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import structs

from tests.contract.builders import NOW
from token_service.core.grants.device_requests import Approval, Decision, DeviceRequest
from token_service.tokens.claims import AuthContext

REQUEST = DeviceRequest(
    user_code_digest=b"u" * 32,
    code_digest=b"c" * 32,
    client_id="tv",
    scopes=("openid", "read"),
    audience=("https://a.example",),
    expire_time=NOW + 600,
)
APPROVED = Decision(
    Approval(
        subject="alice",
        revision=7,
        auth_context=AuthContext("urn:mfa", ("pwd", "otp"), 1700),
        custom_claims={"team": "blü\0", "level": 1.5, "roles": ["a", None]},
        identity_claims={"email": "alice@example.org"},
        upstream="inhouse",
        upstream_session="s-1",
    )
)
DENIED = Decision()


def request_of(number: int, **changes: Any) -> DeviceRequest:
    return structs.replace(REQUEST, user_code_digest=bytes([number]) * 32, **changes)


async def test_request_is_found_by_its_user_code(stores):
    assert await stores.device_requests.find(REQUEST.user_code_digest) is None
    assert await stores.device_requests.add(REQUEST)
    assert await stores.device_requests.find(REQUEST.user_code_digest) == REQUEST
    assert await stores.device_requests.find(b"x" * 32) is None


async def test_user_code_belongs_to_one_request(stores):
    other = structs.replace(REQUEST, code_digest=b"d" * 32, client_id="radio")
    assert await stores.device_requests.add(REQUEST)
    assert not await stores.device_requests.add(other)
    assert await stores.device_requests.find(REQUEST.user_code_digest) == REQUEST


async def test_decision_is_kept_as_it_was_made(stores):
    for number, decision in enumerate((APPROVED, DENIED)):
        request = request_of(number)
        await stores.device_requests.add(request)
        assert await stores.device_requests.decide(request.user_code_digest, decision, NOW)
        found = await stores.device_requests.find(request.user_code_digest)
        assert found == structs.replace(request, decision=decision)


async def test_decision_is_never_changed(stores):
    await stores.device_requests.add(REQUEST)
    assert await stores.device_requests.decide(REQUEST.user_code_digest, DENIED, NOW)
    assert not await stores.device_requests.decide(REQUEST.user_code_digest, APPROVED, NOW)
    found = await stores.device_requests.find(REQUEST.user_code_digest)
    assert found.decision == DENIED


async def test_one_of_concurrent_decisions_at_two_nodes_counts(pair):
    for number in range(5):
        request = request_of(number)
        await pair[0].device_requests.add(request)
        digest = request.user_code_digest
        answers = await asyncio.gather(
            *(
                pair[n % 2].device_requests.decide(digest, (APPROVED, DENIED)[n // 2 % 2], NOW)
                for n in range(8)
            )
        )
        assert answers.count(True) == 1
        found = await pair[1].device_requests.find(digest)
        assert found.decision == (APPROVED, DENIED)[answers.index(True) // 2 % 2]


async def test_request_that_has_expired_takes_no_decision(stores):
    await stores.device_requests.add(REQUEST)
    assert not await stores.device_requests.decide(REQUEST.user_code_digest, APPROVED, NOW + 600)
    assert not await stores.device_requests.decide(b"x" * 32, APPROVED, NOW)
    assert await stores.device_requests.decide(REQUEST.user_code_digest, APPROVED, NOW + 599)


async def test_removal_spares_the_next_request_with_the_user_code(stores):
    await stores.device_requests.add(REQUEST)
    await stores.device_requests.remove(structs.replace(REQUEST, code_digest=b"d" * 32))
    assert await stores.device_requests.find(REQUEST.user_code_digest) == REQUEST
    await stores.device_requests.remove(REQUEST)
    assert await stores.device_requests.find(REQUEST.user_code_digest) is None
    assert await stores.device_requests.add(REQUEST)


async def test_purge_deletes_expired_requests_in_batches(stores):
    for number in range(4):
        await stores.device_requests.add(request_of(number, expire_time=NOW + number))
    assert await stores.device_requests.purge(NOW + 3, 2) == 2
    assert await stores.device_requests.purge(NOW + 3, 2) == 1
    assert await stores.device_requests.purge(NOW + 3, 2) == 0
    assert await stores.device_requests.find(request_of(3).user_code_digest) is not None

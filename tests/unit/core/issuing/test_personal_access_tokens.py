"""Personal access tokens are created, validated, listed and revoked."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import ISSUER, Intercepted, Node
from tests.unit.core.virtual_time import START, ManualClock, virtual_time
from token_service.core import limits
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.clients.client import ClientMetadata
from token_service.core.clients.documents import DocumentRules, FetchedDocument
from token_service.core.events.event import Origin
from token_service.core.issuing.commands import IssueCommand
from token_service.core.issuing.personal_access_tokens import CreateCommand, CreatedToken
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.policies.policy import DAY, Policy, parse_policy_book
from token_service.core.policies.rates import Bucket, Operation, Rate
from token_service.core.policies.rights import May, Permission, Right
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.personal_tokens import last_use
from token_service.core.validation.introspector import OpaqueClaims, TokenQuery
from token_service.errors import (
    BindingRequiredError,
    ClientDisabledError,
    ClientNotFoundError,
    InvalidReason,
    InvalidRequestError,
    PermissionDeniedError,
    PolicyViolationError,
    RateLimitedError,
    RefreshTokenInvalidError,
    RequestIdReusedError,
    SessionNotFoundError,
)
from token_service.tokens import strict_json
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import OpaqueToken, parse_opaque_token
from token_service.tokens.revocation import RevocationReason, RevocationTarget
from token_service.tokens.secret import Secret

PERSONAL = TokenKind.PERSONAL_ACCESS
WEB = Caller(
    "web only",
    Rights(
        [
            Right(
                permission=Permission.ISSUE,
                clients=("web",),
                audiences=("api",),
                scopes=("read", "write"),
                token_types=("personal_access",),
                may=(May.OTHER_SUBJECTS,),
            ),
            Right(permission=Permission.REVOKE, clients=("web",)),
        ]
    ),
)


async def a_node(**options: Any) -> Node[ManualClock]:
    return await Node(ManualClock(), max_staleness=1e12, **options).start()


async def create(node: Node, caller: Caller | None = None, **changes: Any) -> CreatedToken:
    command: dict[str, Any] = {
        "subject": "alice",
        "client_id": "web",
        "name": "nightly backup",
        "audience": ("api",),
        "scopes": ("read", "write"),
        "ttl": 30.0 * DAY,
        **changes,
    }
    return await node.core.personal_access_tokens.create(
        caller or Caller.system(), CreateCommand(**command), node.clock.now()
    )


async def listed(node: Node, caller: Caller | None = None, **request: Any) -> list[SessionDetails]:
    page = await node.core.personal_access_tokens.list(caller or Caller.system(), "alice", **request)
    return list(page.sessions)


async def revoke(node: Node, token_id: object, caller: Caller | None = None) -> None:
    await node.core.personal_access_tokens.revoke(
        caller or Caller.system(),
        str(token_id),
        reason=RevocationReason.LOGOUT,
        comment="laptop lost",
        now=node.clock.now(),
    )


async def why(node: Node, token: str, **query: Any) -> InvalidReason | None:
    return (await node.validate(token, **query)).reason


# --- Create -----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_token_is_a_session_with_a_fixed_lifetime_and_a_hash_only():
    node = await a_node(policy=Policy(idle_timeout=60))
    created = await create(node, client_context=Origin("192.0.2.1", "Firefox"))
    assert re.fullmatch(r"tspat_[A-Za-z0-9_-]{95}", created.token)
    row = node.stores.sessions._state.sessions[created.session.id]
    presented = parse_opaque_token(created.token, node.keyring.mac_keys)
    assert row.personal_hash == hashlib.sha256(presented.secret.reveal()).digest()
    assert (row.refresh_hash, row.session_hash) == (None, None)
    assert (row.subject, row.client_id, row.name) == ("alice", "web", "nightly backup")
    assert (row.audience, row.scopes) == (("api",), ("read", "write"))
    assert row.idle_expire_time == row.absolute_expire_time == START + 30 * DAY
    assert created.token not in repr(created)
    assert "tspat_" not in repr(row)


@virtual_time
async def test_creation_is_audited_without_the_token():
    node = await a_node()
    created = await create(node, client_context=Origin("192.0.2.1", "Firefox"))
    (event,) = node.audit.named("token.issued")
    assert event == {
        "subject": "alice",
        "client_id": "web",
        "session_id": str(created.session.id),
        "token_id": "",
        "token_types": ("personal_access",),
        "ip_address": "192.0.2.1",
        "user_agent": "Firefox",
        "actor": "system:system",
        "outcome": "success",
    }


@virtual_time
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"subject": ""}, "subject"),
        ({"client_id": ""}, "client_id"),
        ({"name": ""}, "name"),
        ({"name": "x" * (limits.MAX_TOKEN_NAME + 1)}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"audience": ()}, "audience"),
        ({"audience": tuple(map(str, range(limits.MAX_AUDIENCES + 1)))}, "audience"),
        ({"scopes": ()}, "scopes"),
        ({"scopes": ("with space",)}, "scopes[0]"),
        ({"ttl": 0.0}, "ttl"),
        ({"ttl": -1.0}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"request_id": "x" * (limits.MAX_REQUEST_ID + 1)}, "request_id"),
        ({"audience": tuple("x" * 510 + f"{n:02}" for n in range(16)),
          "scopes": tuple("x" * 126 + f"{n:02}" for n in range(64))}, "custom_claims"),
    ],
)  # fmt: skip
async def test_incomplete_or_oversized_request_is_refused(change: dict[str, Any], field: str):
    node = await a_node()
    with pytest.raises(InvalidRequestError) as refused:
        await create(node, **change)
    assert [violation.field for violation in refused.value.violations] == [field]
    assert not node.stores.sessions._state.sessions


@virtual_time
async def test_lifetime_is_bounded_by_the_policy():
    node = await a_node(policy=Policy(personal_access_token_ttl=7 * DAY))
    created = await create(node, ttl=7.0 * DAY)
    assert created.session.absolute_expire_time == START + 7 * DAY
    with pytest.raises(PolicyViolationError) as refused:
        await create(node, ttl=7.0 * DAY + 1)
    assert refused.value.metadata == {"field": "ttl"}
    node.policy = Policy(personal_access_token_ttl=0)
    with pytest.raises(PolicyViolationError, match="no personal access tokens"):
        await create(node, ttl=1.0)
    node.policy = Policy(binding_required=True)
    with pytest.raises(BindingRequiredError):
        await create(node)
    assert len(node.stores.sessions._state.sessions) == 1


def test_built_in_policies_bound_the_lifetime():
    policies = parse_policy_book({}).policies
    spans = {name: policy.personal_access_token_ttl // DAY for name, policy in policies.items()}
    assert spans == {"public": 90, "internal": 90, "confidential": 30, "restricted": 0}


@virtual_time
async def test_classified_audience_shortens_the_lifetime():
    node = await a_node()
    node.policies.book = parse_policy_book({"audiences": {"payroll": {"classification": "restricted"}}})
    await create(node)
    with pytest.raises(PolicyViolationError):
        await create(node, audience=("api", "payroll"))


@virtual_time
@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"client_id": "other"}, "clients"),
        ({"audience": ("api", "payroll")}, "audiences"),
        ({"scopes": ("read", "admin")}, "scopes"),
    ],
)
async def test_right_to_issue_bounds_the_token(change: dict[str, Any], bound: str):
    node = await a_node()
    await create(node, WEB)
    with pytest.raises(PermissionDeniedError) as refused:
        await create(node, WEB, **change)
    assert refused.value.metadata == {"permission": "issue", "bound": bound}
    assert len(node.stores.sessions._state.sessions) == 1


@virtual_time
async def test_right_for_other_token_types_does_not_reach():
    node = await a_node()
    right = Right(permission=Permission.ISSUE, token_types=("access", "refresh"), may=tuple(May))
    with pytest.raises(PermissionDeniedError) as refused:
        await create(node, Caller("a", Rights([right])))
    assert refused.value.metadata == {"permission": "issue", "bound": "token_types"}


@virtual_time
async def test_other_subject_needs_the_right():
    node = await a_node()
    right = Right(permission=Permission.ISSUE, clients=("web",))
    with pytest.raises(PermissionDeniedError) as refused:
        await create(node, Caller("a", Rights([right])))
    assert refused.value.metadata == {"permission": "issue", "bound": "may"}
    await create(node, Caller("a", Rights([right])), subject="web")


@virtual_time
async def test_token_of_a_client_for_itself_and_this_service_is_for_the_client_only():
    """An access token made from it would have the rights of the client."""
    node = await a_node()
    await node.core.client_administration.create(Caller.system(), "web", ClientMetadata(), START)
    issuing = Caller("a", Rights.of(Permission.ISSUE))
    with pytest.raises(PermissionDeniedError):
        await create(node, issuing, subject="web", audience=(ISSUER,))
    await create(node, replace(issuing, client_id="web"), subject="web", audience=(ISSUER,))


@virtual_time
async def test_registered_client_gets_only_what_it_is_registered_for():
    node = await a_node()
    metadata = ClientMetadata(scopes=("read",), audiences=("api",))
    await node.core.client_administration.create(Caller.system(), "web", metadata, START)
    await create(node, scopes=("read",))
    changes: tuple[dict[str, Any], ...] = (
        {"scopes": ("write",)},
        {"scopes": ("read",), "audience": ("files",)},
    )
    for change in changes:
        with pytest.raises(PolicyViolationError):
            await create(node, **change)
    await node.core.client_administration.disable(Caller.system(), "web", START)
    with pytest.raises(ClientDisabledError):
        await create(node, scopes=("read",))


class Documents:
    """Describes every client."""

    async def fetch(self, url: str) -> FetchedDocument:
        document = {"client_id": url, "redirect_uris": ["https://app.example/cb"]}
        return FetchedDocument(strict_json.encode(document), 600.0)


@virtual_time
async def test_client_that_describes_itself_gets_tokens_where_clients_must_be_known():
    node = await a_node(
        documents=Documents(), document_rules=DocumentRules(scopes=("read",)), require_registered_clients=True
    )
    described = "https://app.example/client"
    assert (await create(node, client_id=described, scopes=("read",))).session.client_id == described
    with pytest.raises(ClientNotFoundError):
        await create(node)
    with pytest.raises(PermissionDeniedError):
        await create(node, WEB, client_id="https://app.example/other")


@virtual_time
async def test_rates_of_issue_and_of_new_sessions_count():
    node = await a_node(policy=Policy(rates={(Operation.OPEN_SESSION, Bucket.SUBJECT): Rate(1, 60)}))
    await create(node)
    with pytest.raises(RateLimitedError):
        await create(node)
    await create(node, subject="bob")


@virtual_time
async def test_repeated_request_gets_the_same_token():
    node = await a_node()
    first = await create(node, request_id="r-1")
    node.clock.elapsed = 100
    assert await create(node, request_id="r-1") == first
    assert (await create(node, request_id="r-2")).token != first.token
    for change in ({"name": "other"}, {"scopes": ("read",)}, {"ttl": 60.0}, {"subject": "bob"}):
        with pytest.raises(RequestIdReusedError):
            await create(node, request_id="r-1", **change)
    await revoke(node, first.session.id)
    with pytest.raises(RequestIdReusedError, match="has ended"):
        await create(node, request_id="r-1")


@virtual_time
async def test_request_id_of_a_session_is_not_that_of_a_token():
    node = await a_node()
    await node.issue(audience=("api",), scopes=("read", "write"), request_id="login")
    with pytest.raises(RequestIdReusedError):
        await create(node, request_id="login")
    await create(node, request_id="token")
    with pytest.raises(RequestIdReusedError):
        await node.issue(audience=("api",), scopes=("read", "write"), request_id="token")


@virtual_time
async def test_issue_token_issues_none():
    node = await a_node()
    with pytest.raises(InvalidRequestError):
        await node.issuer.issue(
            Caller.system(),
            IssueCommand(subject="alice", client_id="web", kinds=frozenset({PERSONAL})),
            START,
        )


# --- Validate ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_live_token_is_active_with_its_claims():
    node = await a_node()
    created = await create(node)
    answer = await node.validate(created.token, audience="api", required_scopes=["read"], kind=PERSONAL)
    assert isinstance(answer.claims, OpaqueClaims)
    assert (answer.claims.kind, answer.claims.session.id) == (PERSONAL, created.session.id)
    assert await why(node, created.token, audience="files") is InvalidReason.WRONG_AUDIENCE
    assert await why(node, created.token, required_scopes=["admin"]) is InvalidReason.INSUFFICIENT_SCOPE
    assert await why(node, created.token, kind=TokenKind.SESSION) is InvalidReason.WRONG_TYPE
    assert await why(node, created.token[:-1]) is InvalidReason.MALFORMED
    batch = [TokenQuery(created.token), TokenQuery(created.token, audience="files")]
    answers = [each async for each in node.introspector.validate_batch(Caller.system(), 2, batch)]
    assert [each.reason for each in answers] == [None, InvalidReason.WRONG_AUDIENCE]


@virtual_time
async def test_forged_token_costs_no_query():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    created = await create(node)
    sessions.calls.clear()
    body = created.token.removeprefix("tspat_")
    flipped = body[:50] + ("A" if body[50] != "A" else "B") + body[51:]
    for text in ("tspat_" + flipped, "tspat_" + "A" * 95, "st_" + body, "rt_" + body):
        assert await why(node, text) is InvalidReason.BAD_SIGNATURE
    assert sessions.calls == []


@virtual_time
async def test_authentic_token_with_another_secret_is_refused():
    """A MAC key that leaked does not make tokens of sessions whose secret is unknown."""
    node = await a_node()
    created = await create(node)
    login = await node.issue(kinds=frozenset({TokenKind.SESSION}))
    keys = node.keyring.mac_keys
    for session_id in (created.session.id, parse_opaque_token(login.session_token, keys).session_id):
        forged = OpaqueToken(PERSONAL, keys.active, session_id, 0, Secret(b"x" * 32)).format(keys)
        assert await why(node, forged) is InvalidReason.BAD_SIGNATURE


@virtual_time
async def test_token_expires_used_or_not():
    node = await a_node(policy=Policy(idle_timeout=60))
    created = await create(node, ttl=1000.0)
    node.clock.elapsed = 999
    assert await why(node, created.token) is None
    node.clock.elapsed = 1000
    assert await why(node, created.token) is InvalidReason.EXPIRED
    (details,) = await listed(node)
    assert details.session.absolute_expire_time == START + 1000


@virtual_time
async def test_use_is_recorded_at_once_and_then_once_a_minute():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    created = await create(node)

    async def used() -> float | None:
        return last_use((await listed(node))[0].session)

    assert await used() is None
    expected = {1: 1, 2: 1, 60.5: 1, 61: 61, 120: 61, 121: 121}
    for elapsed, recorded in expected.items():
        node.clock.elapsed = elapsed
        assert await why(node, created.token) is None
        assert await used() == START + recorded
    assert sessions.calls.count("use") == 3


# --- List -------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_list_has_the_tokens_of_the_subject_newest_first():
    node = await a_node()
    made = []
    for number in range(3):
        node.clock.elapsed = number
        made.append(await create(node, name=f"token {number}", client_id=("web", "ci")[number % 2]))
        await node.issue()
    await create(node, subject="bob")
    assert [details.session.name for details in await listed(node)] == ["token 2", "token 1", "token 0"]
    assert [details.session.name for details in await listed(node, client_id="ci")] == ["token 1"]
    first = await node.core.personal_access_tokens.list(Caller.system(), "alice", page_size=2)
    rest = await node.core.personal_access_tokens.list(
        Caller.system(), "alice", page_size=2, page_token=first.next_page_token
    )
    names = [details.session.name for details in (*first.sessions, *rest.sessions)]
    assert (names, rest.next_page_token) == (["token 2", "token 1", "token 0"], "")
    await revoke(node, made[2].session.id)
    assert [details.session.name for details in await listed(node, live_at=node.clock.now())] == [
        "token 1",
        "token 0",
    ]


@virtual_time
async def test_caller_lists_tokens_of_the_clients_it_may_issue_for():
    node = await a_node()
    await create(node)
    await create(node, client_id="ci")
    assert [details.session.client_id for details in await listed(node, WEB, client_id="web")] == ["web"]
    reader = Caller("reader", Rights.of(Permission.ADMIN_READ))
    assert len(await listed(node, reader)) == 2
    for client_id in ("", "ci"):
        with pytest.raises(PermissionDeniedError) as refused:
            await listed(node, WEB, client_id=client_id)
        assert refused.value.metadata == {"permission": "admin.read"}


# --- Revoke and change ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_revocation_by_id_is_a_session_revocation():
    node = await a_node()
    created = await create(node)
    await revoke(node, created.session.id)
    assert await why(node, created.token) is InvalidReason.REVOKED
    (entry,) = node.published
    assert (entry.target, entry.value) == (RevocationTarget.SESSION, str(created.session.id))
    (details,) = await listed(node)
    end = details.end()
    assert end is not None
    assert (end.through, end.reason) == (RevocationTarget.SESSION, RevocationReason.LOGOUT)
    await revoke(node, created.session.id)
    assert len(node.published) == 1


@virtual_time
@pytest.mark.parametrize(
    ("target", "value"),
    [
        (RevocationTarget.SUBJECT, "alice"),
        (RevocationTarget.CLIENT, "web"),
        (RevocationTarget.EVERYTHING, ""),
    ],
)
async def test_wider_revocation_ends_the_token(target: RevocationTarget, value: str):
    node = await a_node()
    created = await create(node)
    await node.revoke(target=target, value=value)
    assert await why(node, created.token) is InvalidReason.REVOKED
    assert await why(node, (await create(node)).token) is None


@virtual_time
async def test_revoke_token_with_the_token_itself_ends_it():
    node = await a_node()
    created = await create(node)
    await node.revoke(token=created.token)
    assert await why(node, created.token) is InvalidReason.REVOKED


@virtual_time
async def test_foreign_and_unknown_tokens_and_other_sessions_are_not_found():
    node = await a_node()
    foreign, login = await create(node, client_id="ci"), await node.issue()
    for caller, token_id in (
        (WEB, foreign.session.id),
        (WEB, login.session_id),
        (Caller.system(), login.session_id),
        (Caller.system(), "3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57"),
    ):
        with pytest.raises(SessionNotFoundError, match=r"^there is no such personal access token$"):
            await revoke(node, token_id, caller)
    assert node.published == []
    own = await create(node)
    await revoke(node, own.session.id, WEB)
    assert await why(node, own.token) is InvalidReason.REVOKED
    with pytest.raises(InvalidRequestError) as refused:
        await revoke(node, "x")
    assert refused.value.violations[0].field == "personal_access_token_id"


@virtual_time
async def test_token_is_neither_refreshed_nor_extended_nor_changed():
    node = await a_node()
    created = await create(node)
    before = node.stores.sessions._state.sessions[created.session.id]
    with pytest.raises(RefreshTokenInvalidError):
        await node.refresh(created.token)
    token_id = str(created.session.id)
    with pytest.raises(InvalidRequestError, match="personal access token"):
        await node.sessions.extend(Caller.system(), token_id, "web", None, START)
    command = UpdateSessionCommand(
        session_id=token_id, client_id="web", fields=frozenset({"scopes"}), scopes=("read",)
    )
    with pytest.raises(InvalidRequestError, match="personal access token"):
        await node.core.session_updates.update(Caller.system(), command, START)
    assert node.stores.sessions._state.sessions[created.session.id] == before


@virtual_time
async def test_janitor_deletes_an_expired_token_after_the_retention():
    node = await a_node()
    created = await create(node, ttl=100.0)
    for elapsed, left in ((50, 1), (100 + 7 * DAY - 1, 1), (100 + 7 * DAY + 1, 0)):
        await node.stores.sessions.purge(START + elapsed - 7 * DAY, 100)
        node.clock.elapsed = elapsed
        assert len(await listed(node)) == left
    assert await why(node, created.token) is InvalidReason.UNKNOWN_SESSION

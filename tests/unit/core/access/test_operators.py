"""The operators of a policy file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.core.node import ISSUER, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.operators import operator_of, parse_operators
from token_service.core.events.chain import row_of
from token_service.core.events.event import Action, AuditEvent
from token_service.core.issuing.commands import IssueCommand
from token_service.core.policies.rights import Permission
from token_service.core.validation.introspector import TokenQuery
from token_service.errors import ConfigurationError, PermissionDeniedError
from token_service.tokens.claims import VerifiedClaims

READ, WRITE, REVOKE = Permission.ADMIN_READ, Permission.ADMIN_WRITE, Permission.REVOKE
OPERATORS = parse_operators(
    {
        "operators": {
            "on-call": {"subjects": ["alice", "bob"], "permissions": ["admin.read", "revoke"]},
            "platform": {"groups": ["platform"], "permissions": ["admin"]},
            "leads": {"roles": ["lead"], "entitlements": ["console"], "permissions": ["revoke"]},
        }
    }
)
ALL = ("admin.read", "admin.write", "revoke", "issue")


async def claims_of(subject: str, scopes: tuple[str, ...] = ALL, **claims: Any) -> VerifiedClaims:
    node = await Node(ManualClock(), max_staleness=1e12).start()
    issued = await node.core.issuer.issue(
        Caller.system(),
        IssueCommand(
            subject=subject, client_id="web", audience=(ISSUER,), scopes=scopes, custom_claims=claims
        ),
        node.clock.now(),
    )
    answer = await node.core.introspector.validate(Caller.system(), TokenQuery(issued.access_token))
    assert isinstance(answer.claims, VerifiedClaims)
    return answer.claims


@pytest.mark.parametrize(
    ("subject", "claims", "scopes", "permissions"),
    [
        ("alice", {}, ALL, {READ, REVOKE}),
        ("alice", {}, ("admin.read",), {READ}),
        ("alice", {"groups": ["platform"]}, ALL, {READ, WRITE, REVOKE}),
        ("erin", {"groups": ["other", "platform"]}, ALL, {READ, WRITE}),
        ("erin", {"roles": ["lead"]}, ALL, {REVOKE}),
        ("erin", {"entitlements": ["console"]}, ALL, {REVOKE}),
    ],
)
async def test_operator_may_what_entries_and_scopes_allow(
    subject: str, claims: dict[str, Any], scopes: tuple[str, ...], permissions: set[Permission]
) -> None:
    verified = await claims_of(subject, scopes, **claims)
    caller = operator_of(OPERATORS.values(), verified, ALL)
    assert caller.permissions == permissions
    assert (caller.name, caller.kind, caller.proof) == (subject, "operator", Proof.CONSOLE_LOGIN)
    actor = caller.actor()
    assert (actor.kind, actor.name, actor.proof) == ("operator", subject, "console_login")
    assert actor.session_id == verified.session_id != ""
    assert caller.identity


@pytest.mark.parametrize(
    ("subject", "claims"),
    [
        ("mallory", {}),
        ("Alice", {}),
        ("platform", {}),
        ("mallory", {"groups": ["lead"], "roles": ["platform"]}),
        ("mallory", {"groups": "platform"}),
        ("mallory", {"groups": [["platform"], 7]}),
    ],
)
async def test_subject_without_an_entry_is_denied(subject: str, claims: dict[str, Any]) -> None:
    verified = await claims_of(subject, **claims)
    with pytest.raises(PermissionDeniedError, match="is no operator"):
        operator_of(OPERATORS.values(), verified, ALL)


async def test_scopes_that_no_entry_allows_are_denied() -> None:
    verified = await claims_of("alice", ("admin.write",))
    with pytest.raises(PermissionDeniedError, match=r"none of the scopes .*: admin\.read, revoke"):
        operator_of(OPERATORS.values(), verified, ALL)


async def test_scopes_that_the_client_has_lost_allow_nothing() -> None:
    verified = await claims_of("alice", ALL)
    assert operator_of(OPERATORS.values(), verified, ("revoke",)).permissions == {REVOKE}
    with pytest.raises(PermissionDeniedError, match="none of the scopes"):
        operator_of(OPERATORS.values(), verified, ("openid",))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("x", "must be a table"),
        ({"permissions": ["admin"]}, "must name one of subjects, groups, roles, entitlements"),
        ({"subjects": [], "permissions": ["admin"]}, "must name one of subjects"),
        ({"subjects": "alice", "permissions": ["admin"]}, "subjects: must be a list"),
        ({"subjects": [""], "permissions": ["admin"]}, "subjects: '' is no text of 1 to 256"),
        ({"groups": [7], "permissions": ["admin"]}, "groups: 7 is no text"),
        ({"subjects": ["alice"]}, "permissions: must be a list"),
        ({"subjects": ["alice"], "permissions": []}, "permissions: must name one"),
        ({"subjects": ["alice"], "permissions": ["issue"]}, "permissions: issue is not for operators"),
        ({"subjects": ["alice"], "permissions": ["exchange"]}, "exchange is not for operators"),
        ({"subjects": ["alice"], "permissions": ["admin.reed"]}, "did you mean admin.read?"),
        ({"subject": ["alice"], "permissions": ["admin"]}, "did you mean subjects?"),
    ],
)
def test_mistake_in_an_entry_is_named(entry: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_operators({"operators": {"o": entry}})
    assert "operators.o: " in raised.value.message
    assert says in raised.value.message


def test_every_mistake_is_listed() -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_operators({"operators": {"a": {}, "b": {}}})
    assert "operators.a" in raised.value.message
    assert "operators.b" in raised.value.message
    with pytest.raises(ConfigurationError, match="operators: must be a table"):
        parse_operators({"operators": []})


async def test_operators_of_the_database_have_no_proof() -> None:
    actor = Caller.operator("root@host").actor()
    assert (actor.kind, actor.proof, actor.session_id) == ("operator", "", "")


async def test_row_of_an_event_has_the_session_of_its_operator() -> None:
    verified = await claims_of("alice")
    actor = operator_of(OPERATORS.values(), verified, ALL).actor()
    event = AuditEvent(action=Action.CLIENT_DISABLED, actor=actor, fields={"revision": 7})
    row = row_of(event, "chain", 1, 0, b"salt", "1", clean=str)
    assert (row.actor_kind, row.actor_name, row.actor_proof) == ("operator", "alice", "console_login")
    assert json.loads(row.fields) == {"revision": 7, "actor_session_id": verified.session_id}

"""UpdateSession: the next refresh uses the new values; nothing is widened."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import jwt
import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.issuing.commands import IssueCommand, IssuedTokens, RefreshCommand
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.policies.policy import parse_policy_book
from token_service.core.policies.rights import May, Permission, Right
from token_service.core.sessions.session import Session
from token_service.errors import (
    CustomClaimNotAllowedError,
    CustomClaimsTooLargeError,
    InvalidRequestError,
    PermissionDeniedError,
    ReservedClaimError,
    ScopeExceededError,
    ServiceError,
    SessionNotActiveError,
    SessionNotFoundError,
)
from token_service.tokens.claims import AuthContext
from token_service.tokens.revocation import RevocationTarget


class Scene:
    def __init__(self, node: Node, tokens: IssuedTokens) -> None:
        self.node = node
        self.tokens = tokens

    async def update(self, caller: Caller | None = None, **changes: Any) -> Session:
        values: dict[str, Any] = {
            "session_id": self.tokens.session_id,
            "client_id": "web",
            "fields": frozenset(changes) & {"scopes", "custom_claims", "auth_context"},
        }
        command = UpdateSessionCommand(**{**values, **changes})
        updates = self.node.core.session_updates
        return await updates.update(caller or Caller.system(), command, self.node.clock.now())

    async def refreshed(self) -> dict[str, Any]:
        """Refresh; return the claims of the new access token."""
        command = RefreshCommand(refresh_token=self.tokens.refresh_token, client_id="web")
        self.tokens = await self.node.refresher.refresh(Caller.system(), command, self.node.clock.now())
        claims: dict[str, Any] = jwt.decode(self.tokens.access_token, options={"verify_signature": False})
        return claims


@pytest.fixture
async def scene() -> Scene:
    node = await Node(ManualClock(), max_staleness=1e12).start()
    command = IssueCommand(
        subject="alice",
        client_id="web",
        scopes=("read", "write"),
        custom_claims={"team": "blue"},
        auth_context=AuthContext("1", ("pwd",), 1_700_000_000),
    )
    return Scene(node, await node.issuer.issue(Caller.system(), command, node.clock.now()))


async def test_the_next_refresh_uses_the_new_values(scene: Scene) -> None:
    before = scene.tokens.access_token
    raised = AuthContext("2", ("pwd", "otp"), 1_800_000_000)
    await scene.update(scopes=("read",), custom_claims={"team": "red"}, auth_context=raised)
    claims = await scene.refreshed()
    assert (claims["scope"], claims["team"]) == ("read", "red")
    assert claims["auth_ctx"] == {"acr": "2", "amr": ["pwd", "otp"], "auth_time": 1_800_000_000}
    # A token of before stays as it is.
    assert jwt.decode(before, options={"verify_signature": False})["scope"] == "read write"
    assert (await scene.node.validate(before)).reason is None


async def test_a_field_outside_of_the_mask_stays(scene: Scene) -> None:
    await scene.update(custom_claims={})
    claims = await scene.refreshed()
    assert "team" not in claims
    assert (claims["scope"], claims["auth_ctx"]["acr"]) == ("read write", "1")


async def test_scopes_are_never_widened(scene: Scene) -> None:
    await scene.update(scopes=("read",))
    for scopes in (("read", "write"), ("admin",)):
        with pytest.raises(ScopeExceededError):
            await scene.update(scopes=scopes)
    assert (await scene.refreshed())["scope"] == "read"


async def test_an_update_is_audited_with_its_fields(scene: Scene) -> None:
    await scene.update(scopes=("read",), custom_claims={"team": "red"})
    event, fields = scene.node.audit.events[-1]
    assert event == "session.updated"
    assert fields["session_id"] == scene.tokens.session_id
    assert (fields["fields"], fields["scopes"]) == (("custom_claims", "scopes"), ("read",))
    assert "red" not in repr(fields)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"fields": frozenset()}, InvalidRequestError),
        ({"session_id": "x", "scopes": ()}, InvalidRequestError),
        ({"client_id": "", "scopes": ()}, InvalidRequestError),
        ({"scopes": ("a b",)}, InvalidRequestError),
        ({"auth_context": AuthContext("x" * 300, ())}, InvalidRequestError),
        ({"custom_claims": {"sub": "root"}}, ReservedClaimError),
        ({"custom_claims": {"Client-Secret": "x"}}, CustomClaimNotAllowedError),
        ({"custom_claims": {"text": "x" * 5000}}, CustomClaimsTooLargeError),
        ({"session_id": str(uuid4()), "scopes": ()}, SessionNotFoundError),
        ({"client_id": "billing", "scopes": ()}, SessionNotFoundError),
    ],
)
async def test_a_refused_update_changes_nothing(
    scene: Scene, changes: dict[str, Any], error: type[ServiceError]
) -> None:
    with pytest.raises(error):
        await scene.update(**changes)
    claims = await scene.refreshed()
    assert (claims["scope"], claims["team"], claims["auth_ctx"]["acr"]) == ("read write", "blue", "1")


async def test_a_revoked_session_is_not_updated(scene: Scene) -> None:
    await scene.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    with pytest.raises(SessionNotActiveError):
        await scene.update(scopes=())


@pytest.mark.parametrize(
    ("right", "changes", "bound"),
    [
        ({"clients": ("billing",)}, {"scopes": ()}, "clients"),
        ({"scopes": ("read",)}, {"custom_claims": {}}, "scopes"),
        ({"may": ()}, {"scopes": ()}, "may"),
        ({"may": (May.OTHER_SUBJECTS,)}, {"custom_claims": {}}, "may"),
        ({"may": (May.OTHER_SUBJECTS,)}, {"auth_context": None}, "may"),
    ],
)
async def test_an_update_needs_the_right_to_issue_the_result(
    scene: Scene, right: dict[str, Any], changes: dict[str, Any], bound: str
) -> None:
    values: dict[str, Any] = {"permission": Permission.ISSUE, "clients": ("web",), "may": tuple(May), **right}
    caller = Caller("a", Rights([Right(**values)]))
    with pytest.raises(PermissionDeniedError) as denied:
        await scene.update(caller, **changes)
    assert denied.value.metadata["bound"] == bound


async def test_narrowing_into_the_bounds_is_allowed(scene: Scene) -> None:
    right = Right(permission=Permission.ISSUE, scopes=("read",), may=(May.OTHER_SUBJECTS,))
    await scene.update(Caller("a", Rights([right])), scopes=("read",))
    assert (await scene.refreshed())["scope"] == "read"


async def test_the_policy_names_the_allowed_claims(scene: Scene) -> None:
    book = parse_policy_book({"classifications": {"internal": {"allowed_custom_claims": ["team"]}}})
    scene.node.core.policies.book = book
    await scene.update(custom_claims={"team": "red"})
    with pytest.raises(CustomClaimNotAllowedError) as refused:
        await scene.update(custom_claims={"team": "red", "tenant": "x"})
    assert refused.value.metadata == {"claim": "tenant"}

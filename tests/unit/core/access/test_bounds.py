"""A caller with bounds can't reach beyond them through any use case, and a refusal changes nothing."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.unit.core.node import ISSUER, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.clients.client import ClientMetadata
from token_service.core.issuing.commands import IssueCommand, IssuedTokens, RefreshCommand
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Bucket, Operation, Rate
from token_service.core.policies.rights import May, Permission, Right
from token_service.core.revocation.commands import RevokeCommand
from token_service.errors import PermissionDeniedError, SessionNotFoundError
from token_service.tokens.claims import AuthContext
from token_service.tokens.revocation import RevocationTarget

WEB = Caller(
    "web only",
    Rights(
        [
            Right(
                permission=Permission.ISSUE,
                clients=("web",),
                scopes=("orders:*",),
                may=(May.OTHER_SUBJECTS,),
            ),
            Right(permission=Permission.REFRESH, clients=("web",)),
            Right(permission=Permission.REVOKE, clients=("web",)),
        ]
    ),
)


@dataclass
class Scene:
    """A node with one session of the caller's client and one of another client."""

    node: Node
    own: IssuedTokens
    foreign: IssuedTokens

    @property
    def now(self) -> float:
        return self.node.clock.now()

    def state(self) -> tuple[Any, ...]:
        return deepcopy({**vars(self.node.log._state), "clock": None, "audit": None}), list(
            self.node.audit.events
        )

    async def revoke(self, **command: Any) -> None:
        await self.node.revoker.revoke(WEB, RevokeCommand(**command), self.now)


@pytest.fixture
async def scene() -> Scene:
    node = await Node(ManualClock(), max_staleness=1e12).start()

    async def session(client_id: str) -> IssuedTokens:
        return await node.issuer.issue(
            Caller.system(), IssueCommand(subject="alice", client_id=client_id), node.clock.now()
        )

    return Scene(node, await session("web"), await session("billing"))


@pytest.mark.parametrize(
    ("bound", "request_"),
    [
        ("clients", {"client_id": "billing"}),
        ("scopes", {"scopes": ("admin",)}),
        ("may", {"custom_claims": {"role": "x"}}),
        ("may", {"auth_context": AuthContext(acr="2")}),
    ],
)
async def test_an_issue_beyond_a_bound_makes_no_session(
    scene: Scene, bound: str, request_: dict[str, Any]
) -> None:
    command: dict[str, Any] = {"subject": "alice", "client_id": "web", "scopes": ("orders:read",)}
    before = scene.state()
    with pytest.raises(PermissionDeniedError) as denied:
        await scene.node.issuer.issue(WEB, IssueCommand(**{**command, **request_}), scene.now)
    assert denied.value.metadata == {"permission": "issue", "bound": bound}
    assert scene.state() == before
    await scene.node.issuer.issue(WEB, IssueCommand(**command), scene.now)


async def test_the_audience_of_the_policy_is_bounded_too(scene: Scene) -> None:
    right = Right(permission=Permission.ISSUE, audiences=("https://orders.example.org",), may=tuple(May))
    caller = Caller("a", Rights([right]))
    with pytest.raises(PermissionDeniedError) as denied:
        await scene.node.issuer.issue(caller, IssueCommand(subject="alice", client_id="web"), scene.now)
    assert denied.value.metadata["bound"] == "audiences"


@pytest.mark.parametrize(
    "caller",
    [
        WEB,
        Caller("login", Rights.of(Permission.ISSUE)),
        Caller("other", Rights.of(Permission.ISSUE), client_id="other"),
    ],
)
@pytest.mark.parametrize("audience", [(), ("api", ISSUER)])
async def test_a_token_that_acts_as_a_registered_client_is_refused_to_others(
    scene: Scene, caller: Caller, audience: tuple[str, ...]
) -> None:
    as_client = IssueCommand(subject="web", client_id="web", audience=audience)
    await scene.node.issuer.issue(
        caller, as_client, scene.now
    )  # not registered: the token identifies no caller
    await scene.node.core.client_administration.create(Caller.system(), "web", ClientMetadata(), scene.now)
    before = scene.state()
    with pytest.raises(PermissionDeniedError, match="would act with the rights of the client"):
        await scene.node.issuer.issue(caller, as_client, scene.now)
    assert scene.state() == before
    for allowed in (
        Caller("web", Rights.of(Permission.ISSUE), client_id="web"),
        Caller("operator", Rights.of(Permission.ISSUE, Permission.ADMIN_WRITE)),
    ):
        await scene.node.issuer.issue(allowed, as_client, scene.now)
    for harmless in (
        IssueCommand(subject="alice", client_id="web", audience=audience),
        IssueCommand(subject="web", client_id="web", audience=("api",)),
    ):
        await scene.node.issuer.issue(caller, harmless, scene.now)


async def test_a_refresh_for_another_client_is_refused(scene: Scene) -> None:
    before = scene.state()
    with pytest.raises(PermissionDeniedError):
        await scene.node.refresher.refresh(
            WEB, RefreshCommand(refresh_token=scene.foreign.refresh_token, client_id="billing"), scene.now
        )
    assert scene.state() == before
    own = RefreshCommand(refresh_token=scene.own.refresh_token, client_id="web")
    await scene.node.refresher.refresh(WEB, own, scene.now)


async def test_an_extension_for_another_client_is_refused(scene: Scene) -> None:
    with pytest.raises(PermissionDeniedError):
        await scene.node.sessions.extend(WEB, scene.foreign.session_id, "billing", None, scene.now)
    await scene.node.sessions.extend(WEB, scene.own.session_id, "web", None, scene.now)


async def test_an_update_for_another_client_tells_nothing_and_takes_none_of_its_rate(scene: Scene) -> None:
    rate = Rate(1, 60)
    scene.node.policy = Policy(rates={(Operation.UPDATE_SESSION, Bucket.CLIENT): rate})
    before = scene.state()
    failures = []
    for session_id in (scene.foreign.session_id, str(uuid4()), scene.own.session_id):
        command = UpdateSessionCommand(
            session_id=session_id, client_id="billing", fields=frozenset({"scopes"})
        )
        with pytest.raises(PermissionDeniedError) as failure:
            await scene.node.core.session_updates.update(WEB, command, scene.now)
        failures.append((failure.value.message, failure.value.metadata))
    assert failures == failures[:1] * 3
    assert failures[0][1] == {"permission": "issue", "bound": "clients"}
    assert scene.state() == before
    own = UpdateSessionCommand(
        session_id=scene.foreign.session_id, client_id="billing", fields=frozenset({"scopes"})
    )
    await scene.node.core.session_updates.update(Caller.system(), own, scene.now)


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (RevocationTarget.TOKEN_ID, "a"),
        (RevocationTarget.SUBJECT, "alice"),
        (RevocationTarget.CLIENT, "billing"),
    ],
)
async def test_a_target_beyond_the_clients_is_refused(
    scene: Scene, target: RevocationTarget, value: str
) -> None:
    before = scene.state()
    with pytest.raises(PermissionDeniedError) as denied:
        await scene.revoke(target=target, value=value)
    assert denied.value.metadata == {"permission": "revoke", "bound": "clients"}
    assert scene.state() == before


async def test_a_foreign_session_is_as_unknown_as_one_that_does_not_exist(scene: Scene) -> None:
    before = scene.state()
    failures = []
    commands: list[dict[str, Any]] = [
        {"target": RevocationTarget.SESSION, "value": scene.foreign.session_id},
        {"target": RevocationTarget.SESSION, "value": str(uuid4())},
        {"token": scene.foreign.refresh_token},
    ]
    for command in commands:
        with pytest.raises(SessionNotFoundError) as failure:
            await scene.revoke(**command)
        failures.append((failure.value.message, failure.value.metadata))
    assert failures == failures[:1] * 3
    assert scene.state() == before


async def test_a_foreign_access_token_is_refused(scene: Scene) -> None:
    before = scene.state()
    with pytest.raises(PermissionDeniedError):
        await scene.revoke(token=scene.foreign.access_token)
    assert scene.state() == before


@pytest.mark.parametrize("by", ["access_token", "refresh_token", "session", "client"])
async def test_a_target_of_the_own_client_is_revoked(scene: Scene, by: str) -> None:
    commands: dict[str, dict[str, Any]] = {
        "access_token": {"token": scene.own.access_token},
        "refresh_token": {"token": scene.own.refresh_token},
        "session": {"target": RevocationTarget.SESSION, "value": scene.own.session_id},
        "client": {"target": RevocationTarget.CLIENT, "value": "web"},
    }
    await scene.revoke(**commands[by])
    assert (await scene.node.validate(scene.own.access_token)).reason is not None
    assert (await scene.node.validate(scene.foreign.access_token)).reason is None

"""Every use case passes the gate, which refuses a caller without the permission before any change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.core.access import webhook_calls
from tests.unit.core.login.challenges import login_challenge
from tests.unit.core.node import SYSTEM, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.app.edges import make_feed
from token_service.clock import SystemClock
from token_service.core.access.caller import Caller
from token_service.core.access.explain import AskedCall
from token_service.core.access.gate import NEEDED, UseCase, admit
from token_service.core.access.rights import Rights
from token_service.core.administration.subjects.erasure import EraseCommand
from token_service.core.clients.client import AUTHORIZATION_CODE, AuthMethod, ClientMetadata
from token_service.core.events.filter import EventFilter
from token_service.core.events.store import AuditFilter
from token_service.core.grants.authorization import AuthorizationGrantCommand
from token_service.core.issuing.commands import IssueCommand, IssuedTokens, RefreshCommand
from token_service.core.issuing.personal_access_tokens import CreateCommand
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.keys.administration import SigningKeys
from token_service.core.login.challenge import AcceptCommand
from token_service.core.policies.rights import Permission
from token_service.core.reports.cluster.subscribers import SubscriberQuery
from token_service.core.revocation.bulk import RevokeSessionsCommand
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.confirmations import Confirmations
from token_service.core.revocation.entries import EntryFilter
from token_service.core.revocation.key_revocation import KeyRevocation
from token_service.core.sessions.selection import SessionSelection
from token_service.core.sessions.store import SessionFilter
from token_service.core.subscribers.validations import ValidationReport, ValidationReports
from token_service.core.validation.introspector import TokenQuery
from token_service.errors import PermissionDeniedError
from token_service.rpc.server.authorizer import TrustingAuthorizer
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.tokens.revocation import Cursor, RevocationReason, RevocationTarget
from token_service.v1 import (
    admin_service_pb2,
    audit_service_pb2,
    authorization_service_pb2,
    client_service_pb2,
    event_service_pb2,
    key_service_pb2,
    personal_access_token_service_pb2,
    session_service_pb2,
    token_service_pb2,
)

_MODULES = (
    token_service_pb2,
    session_service_pb2,
    personal_access_token_service_pb2,
    key_service_pb2,
    client_service_pb2,
    audit_service_pb2,
    authorization_service_pb2,
    event_service_pb2,
)
RPCS = [
    method.name
    for module in _MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
RPCS += [
    method.name
    for method in admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].methods
    if method.name in set(UseCase)  # the server answers the others with UNIMPLEMENTED
]
ALL = frozenset(Permission)


@dataclass
class Scene:
    """A node on which each use case can succeed: it has a session, a personal access token and an announced prepared key."""

    node: Node
    tokens: IssuedTokens
    personal_id: str
    active_key: str
    prepared_key: str

    @property
    def now(self) -> float:
        return self.node.clock.now()

    @property
    def signing_keys(self) -> SigningKeys:
        return SigningKeys(self.node.keyring, self.node.key_manager)

    def state(self) -> tuple[Any, ...]:
        """Return a copy of the stored state and the audit events."""
        stores = self.node.stores
        webhooks = stores.webhooks._webhooks, stores.events.places, stores.audit.by_place
        state = {**vars(self.node.log._state), "clock": None, "audit": None, "webhooks": webhooks}
        return deepcopy(state), list(self.node.audit.events)


@pytest.fixture
async def scene() -> Scene:
    clock = ManualClock()
    node = await Node(clock, max_staleness=1e12).start()
    active = node.keyring.signer().key_id
    prepared = (await node.key_manager.prepare(SYSTEM, None)).key_id
    clock.elapsed = 601.0
    app = ClientMetadata(
        token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC,
        grant_types=(AUTHORIZATION_CODE,),
        redirect_uris=("https://app.example/cb",),
    )
    await node.core.client_administration.create(Caller.system(), "app", app, 0.0)
    await node.core.policy_administration.set(Caller.system(), [("internal.max_retries", "7")], 0.0)
    await webhook_calls.make_webhook(node)
    personal = await node.core.personal_access_tokens.create(Caller.system(), PERSONAL, clock.now())
    return Scene(node, await node.issue(), str(personal.session.id), active, prepared)


async def issue(scene: Scene, caller: Caller) -> None:
    await scene.node.issuer.issue(caller, IssueCommand(subject="bob", client_id="web"), scene.now)


async def refresh(scene: Scene, caller: Caller) -> None:
    command = RefreshCommand(refresh_token=scene.tokens.refresh_token, client_id="web")
    await scene.node.refresher.refresh(caller, command, scene.now)


async def validate(scene: Scene, caller: Caller) -> None:
    answer = await scene.node.introspector.validate(caller, TokenQuery(scene.tokens.access_token))
    assert answer.reason is None


async def validate_jwt(scene: Scene, caller: Caller) -> None:
    query = TokenQuery(scene.tokens.access_token)
    assert scene.node.introspector.validate_jwt(caller, query, scene.now).reason is None


async def repeat_answer(scene: Scene, caller: Caller) -> None:
    introspector = scene.node.introspector
    entry = (await scene.node.validate(scene.tokens.access_token)).entry
    assert entry is not None
    assert introspector.still_active(caller, entry, introspector.generation, scene.now)


async def validate_batch(scene: Scene, caller: Caller) -> None:
    query = TokenQuery(scene.tokens.access_token)
    answers = [each async for each in scene.node.introspector.validate_batch(caller, 1, [query])]
    assert [answer.reason for answer in answers] == [None]


async def revoke(scene: Scene, caller: Caller) -> None:
    command = RevokeCommand(target=RevocationTarget.SUBJECT, value="alice")
    await scene.node.revoker.revoke(caller, command, scene.now)


def revoke_widely(target: RevocationTarget) -> Callable[[Scene, Caller], Awaitable[None]]:
    async def revoke(scene: Scene, caller: Caller) -> None:
        may_revoke = Caller("a", caller.rights | Rights.of(Permission.REVOKE))
        value = scene.active_key if target is RevocationTarget.KEY else ""
        command = RevokeCommand(target=target, value=value)
        await scene.node.revoker.revoke(may_revoke, command, scene.now)

    return revoke


class WrittenError(Exception):
    """Raised when a stream has begun."""


class Reader:
    """A stream context that ends the stream at its first message."""

    def peer(self) -> str:
        return "peer"

    async def write(self, _: bytes) -> None:
        raise WrittenError


async def stream(scene: Scene, caller: Caller) -> None:
    feed = make_feed(scene.node.core, TrustingAuthorizer(), GrpcLimits())
    reader: Any = Reader()
    try:
        with pytest.raises(WrittenError):
            await feed.stream(token_service_pb2.StreamRevocationsRequest(), reader, caller)
    finally:
        await feed.aclose()


async def stream_events(scene: Scene, caller: Caller) -> None:
    pages = scene.node.core.event_readers.stream(caller, EventFilter(), "", from_earliest=True)
    async with aclosing(pages):
        assert not (await anext(pages)).reset


async def confirm(scene: Scene, caller: Caller) -> None:
    node = scene.node
    head = await node.core.confirmations.confirm(caller, "a", None, 0, ValidationReport())
    assert head == Cursor(node.replica.epoch, 0)


async def get_session(scene: Scene, caller: Caller) -> None:
    details = await scene.node.sessions.get(caller, scene.tokens.session_id)
    assert details.session.subject == "alice"


async def list_sessions(scene: Scene, caller: Caller) -> None:
    page = await scene.node.sessions.list(
        caller, SessionFilter.SUBJECT, "alice", live_at=None, page_size=0, page_token=""
    )
    assert len(page.sessions) == 2


async def extend_session(scene: Scene, caller: Caller) -> None:
    await scene.node.sessions.extend(caller, scene.tokens.session_id, "web", None, scene.now)


async def update_session(scene: Scene, caller: Caller) -> None:
    command = UpdateSessionCommand(
        session_id=scene.tokens.session_id,
        client_id="web",
        fields=frozenset({"custom_claims"}),
        custom_claims={"team": "blue"},
    )
    await scene.node.core.session_updates.update(caller, command, scene.now)


PERSONAL = CreateCommand(
    subject="alice", client_id="web", name="backup", audience=("api",), scopes=("read",), ttl=60.0
)


async def create_personal(scene: Scene, caller: Caller) -> None:
    await scene.node.core.personal_access_tokens.create(caller, PERSONAL, scene.now)


async def list_personal(scene: Scene, caller: Caller) -> None:
    page = await scene.node.core.personal_access_tokens.list(caller, "alice")
    assert [str(details.session.id) for details in page.sessions] == [scene.personal_id]


async def revoke_personal(scene: Scene, caller: Caller) -> None:
    await scene.node.core.personal_access_tokens.revoke(
        caller, scene.personal_id, reason=RevocationReason.LOGOUT, comment="", now=scene.now
    )


async def create_grant(scene: Scene, caller: Caller) -> None:
    command = AuthorizationGrantCommand(
        client_id="app", redirect_uri="https://app.example/cb", code_challenge="c" * 43, subject="bob"
    )
    assert await scene.node.core.oauth.authorization_grants.create(caller, command, scene.now)


async def get_login(scene: Scene, caller: Caller) -> None:
    challenge = await login_challenge(scene.node)
    login, _ = await scene.node.core.oauth.login.challenges.get(caller, challenge, scene.now)
    assert login.request.client_id == "app"


async def accept_login(scene: Scene, caller: Caller) -> None:
    command = AcceptCommand(login_challenge=await login_challenge(scene.node), subject="bob")
    assert await scene.node.core.oauth.login.challenges.accept(caller, command, scene.now)


async def reject_login(scene: Scene, caller: Caller) -> None:
    challenge = await login_challenge(scene.node)
    assert await scene.node.core.oauth.login.challenges.reject(caller, challenge, "", scene.now)


async def list_keys(scene: Scene, caller: Caller) -> None:
    assert len(scene.signing_keys.list(caller, 0, "").keys) == 2


async def prepare_key(scene: Scene, caller: Caller) -> None:
    await scene.signing_keys.prepare(caller, "ES256", 0)


async def activate_key(scene: Scene, caller: Caller) -> None:
    await scene.signing_keys.activate(caller, scene.prepared_key, force=False)


async def retire_key(scene: Scene, caller: Caller) -> None:
    await scene.signing_keys.retire(caller, scene.active_key)


async def revoke_key(scene: Scene, caller: Caller) -> None:
    revocation = KeyRevocation(scene.node.keyring, scene.node.revoker.carry_out)
    await revocation.revoke(caller, scene.active_key, "", scene.now)


def administer_client(method: str, *args: Any) -> Callable[[Scene, Caller], Awaitable[None]]:
    async def administer(scene: Scene, caller: Caller) -> None:
        await getattr(scene.node.core.client_administration, method)(caller, *args)

    return administer


async def list_events(scene: Scene, caller: Caller) -> None:
    await scene.node.core.audit_reports.list(caller, AuditFilter(), 0, "")


async def verify_trail(scene: Scene, caller: Caller) -> None:
    assert (await scene.node.core.audit_reports.verify(caller)).is_intact


async def explain_revocation(scene: Scene, caller: Caller) -> None:
    await scene.node.core.audit_reports.explain(caller, RevocationTarget.SUBJECT, "alice")


async def get_overview(scene: Scene, caller: Caller) -> None:
    await scene.node.core.cluster.overview.get(caller)


async def list_nodes(scene: Scene, caller: Caller) -> None:
    await scene.node.core.cluster.nodes.list(caller)


async def list_subscribers(scene: Scene, caller: Caller) -> None:
    await scene.node.core.cluster.subscribers.list(caller, SubscriberQuery())


async def configuration(scene: Scene, caller: Caller) -> None:
    scene.node.core.configuration_reports.get(caller)


async def explain_access(scene: Scene, caller: Caller) -> None:
    scene.node.core.access_reports.explain(caller, ["web"], AskedCall(use_case=UseCase.REFRESH_TOKEN))


async def get_policies(scene: Scene, caller: Caller) -> None:
    scene.node.core.policy_administration.get(caller)


async def check_overrides(scene: Scene, caller: Caller) -> None:
    scene.node.core.policy_administration.check_overrides(caller, [("internal.rotate", "false")])


async def check_policy_file(scene: Scene, caller: Caller) -> None:
    await scene.node.core.policy_administration.check_file(caller, "")


async def set_policies(scene: Scene, caller: Caller) -> None:
    await scene.node.core.policy_administration.set(caller, [("internal.rotate", "false")], scene.now)


async def reset_policies(scene: Scene, caller: Caller) -> None:
    await scene.node.core.policy_administration.reset(caller, [], scene.now)


ALICES = SessionSelection(subject="alice")


async def count_sessions(scene: Scene, caller: Caller) -> None:
    assert (await scene.node.core.bulk_revocation.count(caller, ALICES, scene.now)).sessions == 2


async def revoke_sessions(scene: Scene, caller: Caller) -> None:
    command = RevokeSessionsCommand(selection=ALICES)
    assert (await scene.node.core.bulk_revocation.revoke(caller, command, scene.now)).sessions == 2


async def revoke_sessions_of_all(scene: Scene, caller: Caller) -> None:
    may_revoke = Caller("a", caller.rights | Rights.of(Permission.REVOKE))
    command = RevokeSessionsCommand(selection=SessionSelection(created_after=0.0))
    await scene.node.core.bulk_revocation.revoke(may_revoke, command, scene.now)


async def list_revocations(scene: Scene, caller: Caller) -> None:
    await scene.node.core.live_revocations.list(caller, EntryFilter(), 0, "", scene.now)


async def preview_revocation(scene: Scene, caller: Caller) -> None:
    command = RevokeCommand(target=RevocationTarget.SUBJECT, value="alice")
    preview = await scene.node.core.revocation_previews.preview(caller, command, scene.now)
    assert preview.reach.sessions == 2


async def preview_key_retirement(scene: Scene, caller: Caller) -> None:
    assert not (await scene.signing_keys.preview_retirement(caller, scene.active_key)).problem


async def export_subject(scene: Scene, caller: Caller) -> None:
    assert (await scene.node.core.subject_export.page(caller, "alice", "", scene.now)).next_page_token


async def erase_subject(scene: Scene, caller: Caller) -> None:
    command = EraseCommand(subject="alice", dry_run=True)
    assert (await scene.node.core.subject_erasure.erase(caller, command, scene.now)).data.sessions == 2


async def preview_automatic_revocation(scene: Scene, caller: Caller) -> None:
    assert not await scene.node.core.automatic_previews.preview(caller, scene.now)


CALLS: list[tuple[UseCase, Callable[[Scene, Caller], Awaitable[None]]]] = [
    (UseCase.ISSUE_TOKEN, issue),
    (UseCase.REFRESH_TOKEN, refresh),
    (UseCase.VALIDATE_TOKEN, validate),
    (UseCase.VALIDATE_TOKEN, validate_jwt),
    (UseCase.VALIDATE_TOKEN, repeat_answer),
    (UseCase.BATCH_VALIDATE_TOKENS, validate_batch),
    (UseCase.REVOKE_TOKEN, revoke),
    (UseCase.REVOKE_WIDELY, revoke_widely(RevocationTarget.KEY)),
    (UseCase.REVOKE_WIDELY, revoke_widely(RevocationTarget.EVERYTHING)),
    (UseCase.CREATE_AUTHORIZATION_GRANT, create_grant),
    (UseCase.GET_LOGIN_REQUEST, get_login),
    (UseCase.ACCEPT_LOGIN_REQUEST, accept_login),
    (UseCase.REJECT_LOGIN_REQUEST, reject_login),
    (UseCase.STREAM_REVOCATIONS, stream),
    (UseCase.STREAM_EVENTS, stream_events),
    (UseCase.CONFIRM_REVOCATIONS, confirm),
    (UseCase.GET_SESSION, get_session),
    (UseCase.LIST_SESSIONS, list_sessions),
    (UseCase.EXTEND_SESSION, extend_session),
    (UseCase.UPDATE_SESSION, update_session),
    (UseCase.CREATE_PERSONAL_ACCESS_TOKEN, create_personal),
    (UseCase.LIST_PERSONAL_ACCESS_TOKENS, list_personal),
    (UseCase.REVOKE_PERSONAL_ACCESS_TOKEN, revoke_personal),
    (UseCase.LIST_SIGNING_KEYS, list_keys),
    (UseCase.PREPARE_SIGNING_KEY, prepare_key),
    (UseCase.ACTIVATE_SIGNING_KEY, activate_key),
    (UseCase.RETIRE_SIGNING_KEY, retire_key),
    (UseCase.REVOKE_SIGNING_KEY, revoke_key),
    (UseCase.CREATE_CLIENT, administer_client("create", "other", ClientMetadata(), 0.0)),
    (UseCase.GET_CLIENT, administer_client("get", "app")),
    (UseCase.LIST_CLIENTS, administer_client("list", 0, "")),
    (UseCase.UPDATE_CLIENT, administer_client("update", "app", {"client_name": "new"}, 0.0)),
    (UseCase.ROTATE_CLIENT_SECRET, administer_client("rotate_secret", "app", 0.0)),
    (UseCase.DISABLE_CLIENT, administer_client("disable", "app", 0.0)),
    (UseCase.ENABLE_CLIENT, administer_client("enable", "app", 0.0)),
    (UseCase.DELETE_CLIENT, administer_client("delete", "app", 0.0)),
    (UseCase.LIST_AUDIT_EVENTS, list_events),
    (UseCase.VERIFY_AUDIT_TRAIL, verify_trail),
    (UseCase.EXPLAIN_REVOCATION, explain_revocation),
    (UseCase.GET_OVERVIEW, get_overview),
    (UseCase.GET_EFFECTIVE_CONFIGURATION, configuration),
    (UseCase.EXPLAIN_ACCESS, explain_access),
    (UseCase.GET_POLICIES, get_policies),
    (UseCase.CHECK_POLICIES, check_overrides),
    (UseCase.CHECK_POLICIES, check_policy_file),
    (UseCase.SET_POLICIES, set_policies),
    (UseCase.RESET_POLICIES, reset_policies),
    (UseCase.LIST_NODES, list_nodes),
    (UseCase.LIST_SUBSCRIBERS, list_subscribers),
    (UseCase.COUNT_SESSIONS, count_sessions),
    (UseCase.REVOKE_SESSIONS, revoke_sessions),
    (UseCase.REVOKE_WIDELY, revoke_sessions_of_all),
    (UseCase.LIST_REVOCATIONS, list_revocations),
    (UseCase.PREVIEW_REVOCATION, preview_revocation),
    (UseCase.PREVIEW_KEY_RETIREMENT, preview_key_retirement),
    *webhook_calls.CALLS,
    (UseCase.EXPORT_SUBJECT, export_subject),
    (UseCase.ERASE_SUBJECT, erase_subject),
    (UseCase.PREVIEW_AUTOMATIC_REVOCATION, preview_automatic_revocation),
]
CHANGING = {
    UseCase.ISSUE_TOKEN,
    UseCase.REFRESH_TOKEN,
    UseCase.REVOKE_TOKEN,
    UseCase.REVOKE_WIDELY,
    UseCase.EXTEND_SESSION,
    UseCase.UPDATE_SESSION,
    UseCase.REVOKE_SESSIONS,
    UseCase.EXPORT_SUBJECT,  # it is recorded
    UseCase.CREATE_PERSONAL_ACCESS_TOKEN,
    UseCase.REVOKE_PERSONAL_ACCESS_TOKEN,
    UseCase.PREPARE_SIGNING_KEY,
    UseCase.ACTIVATE_SIGNING_KEY,
    UseCase.RETIRE_SIGNING_KEY,
    UseCase.REVOKE_SIGNING_KEY,
    UseCase.CREATE_CLIENT,
    UseCase.UPDATE_CLIENT,
    UseCase.ROTATE_CLIENT_SECRET,
    UseCase.DISABLE_CLIENT,
    UseCase.ENABLE_CLIENT,
    UseCase.DELETE_CLIENT,
    UseCase.SET_POLICIES,
    UseCase.RESET_POLICIES,
    *webhook_calls.CHANGING,
}


def test_every_use_case_names_its_permission() -> None:
    assert set(NEEDED) == set(UseCase)


def test_every_rpc_is_a_use_case() -> None:
    others = {UseCase.REVOKE_WIDELY, UseCase.GET_HEALTH, UseCase.GET_METRICS, UseCase.GET_DISCOVERY}
    assert sorted(RPCS) == sorted(use_case.value for use_case in set(UseCase) - others)


def test_every_use_case_that_needs_a_permission_is_tried_without_it() -> None:
    gated = {use_case for use_case, permission in NEEDED.items() if permission is not None}
    assert {use_case for use_case, _ in CALLS} == gated


@pytest.mark.parametrize("use_case", UseCase)
def test_the_gate_asks_for_the_permission_of_the_table(use_case: UseCase) -> None:
    permission = NEEDED[use_case]
    if permission is None:
        admit(Caller.anonymous(), use_case)
        return
    admit(Caller("a", Rights.of(permission)), use_case)
    with pytest.raises(PermissionDeniedError):
        admit(Caller("a", Rights.of(*ALL - {permission})), use_case)


@pytest.mark.parametrize(
    ("use_case", "call"),
    CALLS,
    ids=[f"{use_case.name}-{number}" for number, (use_case, _) in enumerate(CALLS)],
)
async def test_a_use_case_refuses_a_caller_without_its_permission(
    scene: Scene, use_case: UseCase, call: Callable[[Scene, Caller], Awaitable[None]]
) -> None:
    permission = NEEDED[use_case]
    assert permission is not None
    before = scene.state()
    with pytest.raises(PermissionDeniedError) as denied:
        await call(scene, Caller("a", Rights.of(*ALL - {permission})))
    assert denied.value.metadata == {"permission": permission.value}
    assert scene.state() == before
    scene.node.clock.elapsed += 1
    await call(scene, Caller("a", Rights.of(permission)))
    assert (scene.state() != before) == (use_case in CHANGING)


async def test_a_confirmation_beyond_the_head_counts_as_the_head_under_the_name_of_its_caller() -> None:
    node = await Node(SystemClock()).start()
    await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    noted: list[tuple[object, ...]] = []

    class Registry:
        epoch = node.replica.epoch

        def confirm(self, *fields: object, caller: str) -> None:
            noted.append((*fields, caller))

    confirmations = Confirmations(node.read_index, node.replica, Registry(), ValidationReports(SystemClock()))  # type: ignore[arg-type]
    caller = Caller("a", Rights.everything(), identity="id-1")
    epoch = node.replica.epoch
    head = await confirmations.confirm(caller, "gateway", Cursor(epoch, 99), 7, ValidationReport())
    assert head == Cursor(epoch, 1)
    assert noted == [("id-1:gateway", 1, 7, "id-1")]
    for name, applied in (("", head), ("gateway", None), ("gateway", Cursor("another", 1))):
        assert await confirmations.confirm(caller, name, applied, 7, ValidationReport()) == head
    assert len(noted) == 1

"""Every RPC refuses a caller without the permission of its use case, over a real channel."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.unit.core.login.challenges import login_challenge
from tests.unit.core.node import SYSTEM
from tests.unit.rpc.serving import TIMEOUT, Failure, Served, serving
from token_service.core.access.caller import Caller
from token_service.core.access.gate import NEEDED, UseCase
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import Permission
from token_service.errors import CallerUnauthenticatedError
from token_service.rpc.convert.clients import client_metadata
from token_service.rpc.convert.requests import create_personal_access_token
from token_service.rpc.server.authorizer import TrustingAuthorizer
from token_service.v1 import (
    admin_service_pb2 as admin_pb,
    audit_service_pb2 as audit_pb,
    authorization_service_pb2 as authorization_pb,
    client_service_pb2 as clients_pb,
    event_service_pb2 as events_pb,
    key_service_pb2 as keys_pb,
    personal_access_token_service_pb2 as personal_pb,
    session_service_pb2 as sessions_pb,
    token_service_pb2 as pb,
)

METHODS = {
    method.name: method
    for module in (pb, sessions_pb, personal_pb, keys_pb, clients_pb, audit_pb, events_pb, authorization_pb)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
METHODS |= {
    method.name: method
    for method in admin_pb.DESCRIPTOR.services_by_name["AdminService"].methods
    if method.name in set(UseCase)  # the server answers the others with UNIMPLEMENTED
}


class Lacking(TrustingAuthorizer):
    """Every caller has all permissions but one; None: no caller can be identified."""

    def __init__(self, permission: Permission | None) -> None:
        self.lacking = permission

    def identify(self, peer: Any) -> Caller:
        if self.lacking is None:
            raise CallerUnauthenticatedError
        return Caller("lacking", Rights.of(*frozenset(Permission) - {self.lacking}))


async def requests(served: Served) -> dict[str, Message]:
    """Return a request of each RPC that succeeds with the permission."""
    node = served.node
    active = node.keyring.signer().key_id
    prepared = (await node.key_manager.prepare(SYSTEM, None)).key_id
    tokens = await node.issue()
    personal = personal_pb.CreatePersonalAccessTokenRequest(
        subject="alice",
        client_id="web",
        name="backup",
        audience=["api"],
        scopes=["read"],
        ttl={"seconds": 60},
    )
    created = await served.node.core.personal_access_tokens.create(
        Caller.system(), create_personal_access_token(personal), node.clock.now()
    )
    query = pb.ValidateTokenRequest(token=tokens.access_token)
    confidential = clients_pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC
    app = clients_pb.Client(
        client_id="app",
        client_name="App",
        token_endpoint_auth_method=confidential,
        grant_types=["authorization_code"],
        redirect_uris=["https://app.example/cb"],
    )
    await node.core.client_administration.create(
        Caller.system(), "app", client_metadata(clients_pb.CreateClientRequest(client=app)), 0.0
    )
    url = {"url": "https://hooks.example/"}
    hook = await node.core.webhooks.administration.create(Caller.system(), url, node.clock.now())
    webhook = hook.entry.webhook.webhook_id
    challenge = await login_challenge(node)
    return {
        "IssueToken": pb.IssueTokenRequest(subject="bob", client_id="web"),
        "ValidateToken": query,
        "BatchValidateTokens": pb.BatchValidateTokensRequest(requests=[query]),
        "RefreshToken": pb.RefreshTokenRequest(refresh_token=tokens.refresh_token, client_id="web"),
        "RevokeToken": pb.RevokeTokenRequest(subject="alice"),
        "StreamRevocations": pb.StreamRevocationsRequest(),
        "ConfirmRevocations": pb.ConfirmRevocationsRequest(),
        "GetSession": sessions_pb.GetSessionRequest(session_id=tokens.session_id),
        "ListSessions": sessions_pb.ListSessionsRequest(subject="alice"),
        "ExtendSession": sessions_pb.ExtendSessionRequest(session_id=tokens.session_id, client_id="web"),
        "UpdateSession": sessions_pb.UpdateSessionRequest(
            session_id=tokens.session_id, client_id="web", update_mask=FieldMask(paths=["custom_claims"])
        ),
        "CountSessions": sessions_pb.CountSessionsRequest(filter={"subject": "alice"}),
        "RevokeSessions": sessions_pb.RevokeSessionsRequest(filter={"client_id": "web"}),
        "CreatePersonalAccessToken": personal,
        "ListPersonalAccessTokens": personal_pb.ListPersonalAccessTokensRequest(subject="alice"),
        "RevokePersonalAccessToken": personal_pb.RevokePersonalAccessTokenRequest(
            personal_access_token_id=str(created.session.id)
        ),
        "GetKeySet": keys_pb.GetKeySetRequest(),
        "ListSigningKeys": keys_pb.ListSigningKeysRequest(),
        "PrepareSigningKey": keys_pb.PrepareSigningKeyRequest(),
        "ActivateSigningKey": keys_pb.ActivateSigningKeyRequest(key_id=prepared, force=True),
        "RetireSigningKey": keys_pb.RetireSigningKeyRequest(key_id=prepared),
        "CreateClient": clients_pb.CreateClientRequest(client=clients_pb.Client(client_id="other")),
        "GetClient": clients_pb.GetClientRequest(client_id="app"),
        "ListClients": clients_pb.ListClientsRequest(),
        "UpdateClient": clients_pb.UpdateClientRequest(client=app, update_mask={"paths": ["client_name"]}),
        "RotateClientSecret": clients_pb.RotateClientSecretRequest(client_id="app"),
        "DisableClient": clients_pb.DisableClientRequest(client_id="app"),
        "EnableClient": clients_pb.EnableClientRequest(client_id="app"),
        "DeleteClient": clients_pb.DeleteClientRequest(client_id="app"),
        "ListAuditEvents": audit_pb.ListAuditEventsRequest(),
        "VerifyAuditTrail": audit_pb.VerifyAuditTrailRequest(),
        "StreamEvents": events_pb.StreamEventsRequest(),
        "CreateWebhook": events_pb.CreateWebhookRequest(webhook={"url": "https://hooks.example/"}),
        "GetWebhook": events_pb.GetWebhookRequest(webhook_id=webhook),
        "ListWebhooks": events_pb.ListWebhooksRequest(),
        "UpdateWebhook": events_pb.UpdateWebhookRequest(
            webhook={"webhook_id": webhook}, update_mask={"paths": ["disabled"]}
        ),
        "RotateWebhookSecret": events_pb.RotateWebhookSecretRequest(webhook_id=webhook),
        "DeleteWebhook": events_pb.DeleteWebhookRequest(webhook_id=webhook),
        "ListDeadLetters": events_pb.ListDeadLettersRequest(webhook_id=webhook),
        "RedeliverDeadLetters": events_pb.RedeliverDeadLettersRequest(webhook_id=webhook),
        "ReplayWebhook": events_pb.ReplayWebhookRequest(webhook_id=webhook, time={}),
        "TestWebhook": events_pb.TestWebhookRequest(webhook_id=webhook),
        "GetOverview": admin_pb.GetOverviewRequest(),
        "ListNodes": admin_pb.ListNodesRequest(),
        "GetEffectiveConfiguration": admin_pb.GetEffectiveConfigurationRequest(),
        "ExplainAccess": admin_pb.ExplainAccessRequest(names=["app"], method="RefreshToken"),
        "GetPolicies": admin_pb.GetPoliciesRequest(),
        "CheckPolicies": admin_pb.CheckPoliciesRequest(file=""),
        "SetPolicies": admin_pb.SetPoliciesRequest(
            changes={"values": [{"path": "internal.rotate", "value": "false"}]}
        ),
        "ResetPolicies": admin_pb.ResetPoliciesRequest(),
        "ListSubscribers": admin_pb.ListSubscribersRequest(),
        "ListRevocations": admin_pb.ListRevocationsRequest(),
        "PreviewRevocation": admin_pb.PreviewRevocationRequest(token=tokens.refresh_token),
        "PreviewKeyRetirement": admin_pb.PreviewKeyRetirementRequest(key_id=active),
        "PreviewAutomaticRevocation": admin_pb.PreviewAutomaticRevocationRequest(),
        "ExportSubject": admin_pb.ExportSubjectRequest(subject="alice"),
        "EraseSubject": admin_pb.EraseSubjectRequest(subject="alice", dry_run=True),
        "ExplainRevocation": audit_pb.ExplainRevocationRequest(subject="alice"),
        "CreateAuthorizationGrant": authorization_pb.CreateAuthorizationGrantRequest(
            client_id="app", redirect_uri="https://app.example/cb", code_challenge="c" * 43, subject="bob"
        ),
        "GetLoginRequest": authorization_pb.GetLoginRequestRequest(login_challenge=challenge),
        "AcceptLoginRequest": authorization_pb.AcceptLoginRequestRequest(
            login_challenge=challenge, subject="bob"
        ),
        "RejectLoginRequest": authorization_pb.RejectLoginRequestRequest(login_challenge=challenge),
        "RevokeSigningKey": keys_pb.RevokeSigningKeyRequest(key_id=active),
    }


async def first_answer(served: Served, name: str, request: Message) -> Message:
    """Call an RPC and return its answer, or the first one of a stream."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{name}"
    answer_type = GetMessageClass(method.output_type)
    if not method.server_streaming:
        unary: Any = served.channel.unary_unary(path, type(request).SerializeToString, answer_type.FromString)
        return await unary(request, timeout=TIMEOUT)
    stream: Any = served.channel.unary_stream(path, type(request).SerializeToString, answer_type.FromString)
    call = stream(request, timeout=TIMEOUT)
    try:
        return await call.read()
    finally:
        call.cancel()


def state(served: Served) -> tuple[Any, ...]:
    """Return a copy of the stored state and the audit events."""
    node = served.node
    return deepcopy({**vars(node.log._state), "clock": None, "audit": None}), list(node.audit.events)


@pytest.mark.parametrize("name", METHODS)
async def test_an_rpc_refuses_a_caller_without_the_permission_of_its_use_case(name: str) -> None:
    permission = NEEDED[UseCase(name)]
    authorizer = Lacking(permission)
    async with serving(authorizer=authorizer) as served:
        request = (await requests(served))[name]
        if permission is not None:
            before = state(served)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await first_answer(served, name, request)
            failure = Failure(refused.value)
            assert (failure.code, failure.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
            assert failure.metadata == {"permission": permission.value}
            stored, events = state(served)
            (action, fields) = events.pop()
            assert (action, fields["reason"], fields["call_id"]) == (
                "permission.denied",
                permission.value,
                name,
            )
            assert (stored, events) == before
            others = [each for each in Permission if each is not permission]
            authorizer.lacking = others[0]
        assert isinstance(await first_answer(served, name, request), Message)


async def test_health_needs_no_identified_caller() -> None:
    async with serving(authorizer=Lacking(None)) as served:
        health: Any = health_pb2_grpc.HealthStub(served.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

"""Every RPC with every kind of caller that proves itself in the metadata of the call, over a real channel."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import quote_plus

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.support.memory_clients import KnownClients
from tests.unit.core.virtual_time import START
from tests.unit.rpc.services.test_permissions import METHODS, requests
from tests.unit.rpc.serving import TIMEOUT, Failure, Served, serving
from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller
from token_service.core.access.client_authentication import ClientAuthenticator
from token_service.core.access.gate import NEEDED, UseCase
from token_service.core.access.rights import Rights
from token_service.core.access.workloads import Workloads
from token_service.core.clients.client import AuthMethod, Client, ClientState
from token_service.core.clients.client_secret import new_secret
from token_service.core.policies.rights import Permission, Right
from token_service.rpc.server.proof_authorizer import ProofAuthorizer

SECRET, AT_REST = new_secret(lambda size: b"s" * size, START)
UNAUTHENTICATED = "UNAUTHENTICATED"
DENIED = "PERMISSION_DENIED"
OK = "OK"


class Late:
    """An authorizer that is chosen after the server was made."""

    inner: ProofAuthorizer

    def identifier(self, method: str) -> Any:
        def identify(call: Any) -> Any:
            return self.inner.identifier(method)(call)

        return identify

    def rights(self, caller: Caller) -> Rights:
        return self.inner.rights(caller)

    def expire_time(self, caller: Caller) -> float:
        return self.inner.expire_time(caller)

    def on_change(self, listener: Any) -> None:
        """No rights change here."""


def rights_of(*permissions: Permission) -> tuple[Right, ...]:
    return tuple(Right(permission=permission, unbounded=True) for permission in permissions)


def client(client_id: str, *permissions: Permission, state: ClientState = ClientState.ACTIVE) -> Client:
    return Client(
        client_id=client_id,
        token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC,
        secrets=(AT_REST,),
        rights=rights_of(*permissions),
        state=state,
        create_time=START,
        update_time=START,
    )


CLIENTS = {
    each.client_id: each
    for each in (
        client("nothing"),
        client("disabled", *Permission, state=ClientState.DISABLED),
        client("deleted", *Permission, state=ClientState.DELETED),
        client("everything", *Permission),
        *(client(permission.value, permission) for permission in Permission),
        *(
            client(f"all but {permission.value}", *(set(Permission) - {permission}))
            for permission in Permission
        ),
    )
}


def basic(client_id: str, secret: str | None = None) -> tuple[tuple[str, str], ...]:
    text = f"{quote_plus(client_id)}:{secret or SECRET.reveal().decode()}"
    return (("authorization", f"Basic {b64encode(text.encode()).decode()}"),)


def expected(permission: Permission | None, client_id: str) -> str:
    """Return the code for an active client by its rights."""
    own = {Permission.REFRESH, Permission.REVOKE}  # its own tokens only, which no request here names
    has = {right.permission for right in CLIENTS[client_id].rights}
    if permission is None or permission in has:
        return OK
    return DENIED if permission not in own else "OUTSIDE"


async def code_of(served: Served, name: str, request: Message, metadata: Any) -> str:
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{name}"
    decode = GetMessageClass(method.output_type).FromString
    options: dict[str, Any] = {"timeout": TIMEOUT, "metadata": metadata}
    try:
        if not method.server_streaming:
            unary: Any = served.channel.unary_unary(path, type(request).SerializeToString, decode)
            await unary(request, **options)
        else:
            stream: Any = served.channel.unary_stream(path, type(request).SerializeToString, decode)
            call = stream(request, **options)
            await call.read()
            call.cancel()
    except grpc.aio.AioRpcError as error:
        return Failure(error).code
    return OK


@pytest.mark.parametrize("name", METHODS)
async def test_an_rpc_answers_each_kind_of_caller_by_its_proof_and_its_rights(name: str) -> None:
    authorizer = Late()
    permission = NEEDED[UseCase(name)]
    async with serving(authorizer=authorizer) as served:
        core = served.node.core
        authentication = ClientAuthenticator(
            KnownClients(CLIENTS), lambda _client: pytest.fail("no assertion"), core.ports.stores.used_ids,
            core.ports.clock, core.ports.audit, issuer=core.options.issuer,
        )  # fmt: skip
        own_tokens: Any = None
        authenticator = Authenticator(
            CLIENTS, authentication, own_tokens, issuer=core.options.issuer,
            workloads=Workloads([], core.ports.clock), callers={},
        )  # fmt: skip
        authorizer.inner = ProofAuthorizer(authenticator, None)
        request = (await requests(served))[name]
        closed = OK if permission is None else UNAUTHENTICATED
        for metadata in (
            (),
            basic("everything", "tscs_wrong"),
            basic("unknown"),
            basic("disabled"),
            basic("deleted"),
            (("authorization", "Bearer x.y.z"),),
            (("client-assertion", "x.y.z"),),
            (*basic("everything"), ("client-assertion", "x.y.z")),
            (*basic("everything"), *basic("everything")),
        ):
            assert await code_of(served, name, request, metadata) == closed, metadata
        refused = [client_id for client_id, each in CLIENTS.items() if each.state is ClientState.ACTIVE]
        for client_id in sorted(refused, key=lambda each: expected(permission, each) == OK):
            code = await code_of(served, name, request, basic(client_id))
            wanted = expected(permission, client_id)
            if wanted == "OUTSIDE":
                assert code in {DENIED, "NOT_FOUND"}, client_id
            elif wanted == OK:
                assert code not in {DENIED, UNAUTHENTICATED}, client_id  # a change may succeed only once
            else:
                assert code == wanted, client_id

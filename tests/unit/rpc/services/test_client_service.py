"""The life of a client over gRPC: every method as it should be used, and every way it says no."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.unit.core.node import Node
from tests.unit.rpc.serving import Served, refused, serving
from token_service.clock import SystemClock
from token_service.core.clients.client_secret import matching_secret
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.sector_documents import FetchedSectors
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret
from token_service.v1 import client_service_pb2 as pb, token_pb2

SECRET_BASIC = pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC
DAY = 86400


class Clock(SystemClock):
    """The clocks of this machine, with the wall clock set off."""

    offset = 0.0

    def now(self) -> float:
        return SystemClock.now() + self.offset


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(node=Node(Clock(), algorithm=Algorithm.ES256)) as served:
        yield served


async def create(served: Served, client_id: str = "app", **fields: Any) -> pb.CreateClientResponse:
    client = pb.Client(client_id=client_id, **fields)
    return await served.clients.CreateClient(pb.CreateClientRequest(client=client))


async def get(served: Served, client_id: str = "app") -> pb.Client:
    return (await served.clients.GetClient(pb.GetClientRequest(client_id=client_id))).client


async def update(served: Served, *names: str, etag: str = "", **fields: Any) -> pb.Client:
    client = pb.Client(client_id="app", etag=etag, **fields)
    request = pb.UpdateClientRequest(client=client, update_mask=FieldMask(paths=names))
    return (await served.clients.UpdateClient(request)).client


def authenticates(served: Served, secret: str) -> bool:
    client = served.node.clients.get("app")
    assert client is not None
    return matching_secret(client, Secret(secret.encode()), served.node.clock.now()) is not None


async def test_created_client_is_returned_and_counts_at_once(served: Served) -> None:
    created = await create(
        served,
        client_name="App",
        token_endpoint_auth_method=SECRET_BASIC,
        grant_types=["authorization_code", "refresh_token"],
        redirect_uris=["https://app.example/cb"],
        scopes=["read"],
    )
    assert re.fullmatch(r"tscs_[\w-]{49}", created.client_secret)
    client = created.client
    assert (client.client_name, client.state, list(client.scopes)) == (
        "App",
        pb.CLIENT_STATE_ACTIVE,
        ["read"],
    )
    assert (client.etag, len(client.secrets), client.secrets[0].HasField("expire_time")) == ("1", 1, False)
    assert client.create_time == client.update_time == client.secrets[0].create_time
    assert await get(served) == client
    assert created.client_secret not in str(client)
    assert authenticates(served, created.client_secret)
    assert served.node.audit.named("client.created")[0]["client_id"] == "app"
    assert created.client_secret not in str(served.node.audit.events)


async def test_id_is_made_if_the_request_has_none(served: Served) -> None:
    created = await create(served, client_id="")
    assert re.fullmatch(r"[\w-]{22}", created.client.client_id)
    assert created.client_secret == ""
    assert await get(served, created.client.client_id) == created.client


async def test_invalid_client_is_refused_with_every_violation(served: Served) -> None:
    failure = await refused(create(served, client_id="a b", grant_types=["password"], jwks="{}"))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert set(failure.fields) == {"client_id", "grant_types[0]", "jwks"}
    failure = await refused(create(served, token_endpoint_auth_method=9))
    assert set(failure.fields) == {"token_endpoint_auth_method"}


async def test_subject_type_is_public_unless_the_service_can_make_pairwise_subjects(served: Served) -> None:
    assert (await create(served)).client.subject_type == pb.SUBJECT_TYPE_PUBLIC
    pairwise: dict[str, Any] = {
        "subject_type": pb.SUBJECT_TYPE_PAIRWISE,
        "redirect_uris": ["https://app.example/cb"],
    }
    assert set((await refused(create(served, "b", **pairwise))).fields) == {"subject_type"}
    assert set((await refused(create(served, "b", subject_type=9))).fields) == {"subject_type"}
    node = Node(
        Clock(),
        algorithm=Algorithm.ES256,
        pairwise_key=Secret(bytes(32)),
        sectors=FetchedSectors(HttpFetcher(), FetchRules()),
    )
    async with serving(node=node) as other:
        assert (await create(other, **pairwise)).client.subject_type == pb.SUBJECT_TYPE_PAIRWISE
        assert (await get(other)).subject_type == pb.SUBJECT_TYPE_PAIRWISE
        changed = await update(other, "subject_type")
        assert changed.subject_type == pb.SUBJECT_TYPE_PUBLIC


async def test_security_settings_are_kept_and_changed(served: Served) -> None:
    created = (await create(served)).client
    assert created.security_profile == pb.SECURITY_PROFILE_NONE
    assert set((await refused(create(served, "b", security_profile=9))).fields) == {"security_profile"}
    settings: dict[str, Any] = {
        "dpop_bound_access_tokens": True,
        "require_pushed_authorization_requests": True,
    }
    changed = await update(served, *settings, **settings)
    assert await get(served) == changed
    assert (changed.dpop_bound_access_tokens, changed.require_pushed_authorization_requests) == (True, True)
    tls: dict[str, Any] = {"tls_client_certificate_bound_access_tokens": True}
    assert set((await refused(update(served, *tls, **tls))).fields) == set(tls)
    other = (await create(served, "c", **tls)).client
    assert (other.tls_client_certificate_bound_access_tokens, other.dpop_bound_access_tokens) == (True, False)


async def test_settings_that_contradict_the_profile_are_refused(served: Served) -> None:
    fapi: dict[str, Any] = {"security_profile": pb.SECURITY_PROFILE_FAPI2}
    failure = await refused(create(served, **fapi, token_endpoint_auth_method=SECRET_BASIC))
    assert (failure.reason, set(failure.fields)) == ("INVALID_REQUEST", {"token_endpoint_auth_method"})
    keyed: dict[str, Any] = {
        "token_endpoint_auth_method": pb.TOKEN_ENDPOINT_AUTH_METHOD_PRIVATE_KEY_JWT,
        "jwks_uri": "https://app.example/jwks",
    }
    assert (await create(served, **fapi, **keyed)).client.security_profile == pb.SECURITY_PROFILE_FAPI2
    changed = {"accepts_endpoint_audience": True}
    assert set((await refused(update(served, *changed, **changed))).fields) == set(changed)  # type: ignore[arg-type]
    loosened = await update(served, "security_profile", security_profile=pb.SECURITY_PROFILE_NONE)
    assert loosened.security_profile == pb.SECURITY_PROFILE_NONE
    assert (await update(served, *changed, **changed)).accepts_endpoint_audience  # type: ignore[arg-type]


async def test_taken_id_is_refused_even_after_deletion(served: Served) -> None:
    await create(served)
    assert (await refused(create(served))).reason == "CLIENT_EXISTS"
    await served.clients.DeleteClient(pb.DeleteClientRequest(client_id="app"))
    failure = await refused(create(served))
    assert (failure.code, failure.reason, failure.metadata) == (
        "ALREADY_EXISTS",
        "CLIENT_EXISTS",
        {"client_id": "app"},
    )
    assert (await refused(get(served))).reason == "CLIENT_NOT_FOUND"


async def test_update_changes_the_fields_of_the_mask(served: Served) -> None:
    first = (await create(served, client_name="App", scopes=["read"])).client
    changed = await update(served, "scopes", etag=first.etag, scopes=["write"], client_name="ignored")
    assert (changed.client_name, list(changed.scopes), changed.etag) == ("App", ["write"], "2")
    assert await get(served) == changed
    assert served.node.clients.get("app").scopes == ("write",)  # type: ignore[union-attr]
    failure = await refused(update(served, "client_name", etag=first.etag, client_name="b"))
    assert (failure.code, failure.reason, failure.metadata["etag"]) == ("ABORTED", "CLIENT_CHANGED", "2")
    assert (await update(served, "client_name", client_name="b")).client_name == "b"


async def test_update_keeps_the_rules_and_knows_its_fields(served: Served) -> None:
    await create(served)
    for names, fields, field in (
        ((), {}, "update_mask"),
        (("state",), {}, "update_mask"),
        (("client_id",), {}, "update_mask"),
        (("client_uri",), {}, "update_mask"),
        (("grant_types",), {"grant_types": ["authorization_code"]}, "redirect_uris"),
    ):
        assert set((await refused(update(served, *names, **fields))).fields) == {field}  # type: ignore[arg-type]
    assert (await get(served)).etag == "1"


async def test_method_without_secrets_ends_the_secrets(served: Served) -> None:
    created = await create(served, token_endpoint_auth_method=SECRET_BASIC)
    changed = await update(
        served,
        "token_endpoint_auth_method",
        token_endpoint_auth_method=pb.TOKEN_ENDPOINT_AUTH_METHOD_NONE,
    )
    assert not changed.secrets
    assert not authenticates(served, created.client_secret)


async def test_rotated_secret_stays_live_for_the_overlap_and_two_at_most(served: Served) -> None:
    first = (await create(served, token_endpoint_auth_method=SECRET_BASIC)).client_secret
    rotate = served.clients.RotateClientSecret
    second = (await rotate(pb.RotateClientSecretRequest(client_id="app"))).client_secret
    served.node.clock.offset = DAY - 60
    assert authenticates(served, first)
    served.node.clock.offset = DAY
    assert not authenticates(served, first)
    assert authenticates(served, second)
    third = await rotate(pb.RotateClientSecretRequest(client_id="app", secret_ttl=Duration(seconds=3600)))
    assert [secret.HasField("expire_time") for secret in third.client.secrets] == [True, True]
    fourth = await rotate(pb.RotateClientSecretRequest(client_id="app"))
    assert [authenticates(served, text) for text in (second, third.client_secret, fourth.client_secret)] == [
        False,
        True,
        True,
    ]
    served.node.clock.offset += 3600
    assert not authenticates(served, third.client_secret)
    last = await rotate(pb.RotateClientSecretRequest(client_id="app", overlap=Duration()))
    assert len(last.client.secrets) == 1
    assert not authenticates(served, fourth.client_secret)


async def test_rotation_is_refused_without_secrets_or_beyond_the_limits(served: Served) -> None:
    await create(served)
    rotate = served.clients.RotateClientSecret
    assert set((await refused(rotate(pb.RotateClientSecretRequest(client_id="app")))).fields) == {"client_id"}
    request = pb.RotateClientSecretRequest(
        client_id="app", overlap=Duration(seconds=30 * DAY + 1), secret_ttl=Duration(seconds=59)
    )
    assert set((await refused(rotate(request))).fields) == {"overlap", "secret_ttl"}


async def test_disabled_client_gets_no_tokens_until_it_is_enabled(served: Served) -> None:
    await create(served)
    types = [token_pb2.TOKEN_TYPE_ACCESS]
    before = (await served.issue(client_id="app", token_types=types)).access_token
    disabled = await served.clients.DisableClient(pb.DisableClientRequest(client_id="app", comment="stolen"))
    assert disabled.client.state == pb.CLIENT_STATE_DISABLED
    assert disabled.cursor == str(served.node.replica.cursor)
    assert not (await served.validate(before)).active
    failure = await refused(served.issue(client_id="app"))
    assert (failure.code, failure.reason) == ("PERMISSION_DENIED", "CLIENT_DISABLED")
    again = await served.clients.DisableClient(pb.DisableClientRequest(client_id="app"))
    assert again == disabled
    enabled = (await served.clients.EnableClient(pb.EnableClientRequest(client_id="app"))).client
    assert enabled.state == pb.CLIENT_STATE_ACTIVE
    assert (await served.clients.EnableClient(pb.EnableClientRequest(client_id="app"))).client == enabled
    assert not (await served.validate(before)).active
    after = (await served.issue(client_id="app", token_types=types)).access_token
    assert (await served.validate(after)).active


async def test_end_of_a_client_needs_its_etag_if_one_is_given(served: Served) -> None:
    await create(served)
    for call, request in (
        (served.clients.DisableClient, pb.DisableClientRequest(client_id="app", etag="9")),
        (served.clients.DeleteClient, pb.DeleteClientRequest(client_id="app", etag="9")),
        (served.clients.EnableClient, pb.EnableClientRequest(client_id="app", etag="x")),
    ):
        assert (await refused(call(request))).reason == "CLIENT_CHANGED"
    assert served.node.replica.applied == 0
    for call, request in (
        (served.clients.DisableClient, pb.DisableClientRequest(client_id="app", etag="1")),
        (served.clients.DeleteClient, pb.DeleteClientRequest(client_id="app", etag="2")),
    ):
        await call(request)
    assert served.node.replica.applied == 2
    for method in ("Disable", "Enable", "Delete"):
        request = getattr(pb, f"{method}ClientRequest")(client_id="app")
        assert (await refused(getattr(served.clients, f"{method}Client")(request))).code == "NOT_FOUND"


async def test_list_pages_newest_first(served: Served) -> None:
    for number in range(5):
        await create(served, client_id=f"c{number}")
    found, token = [], ""
    for _ in range(3):
        page = await served.clients.ListClients(pb.ListClientsRequest(page_size=2, page_token=token))
        found += [client.client_id for client in page.clients]
        token = page.next_page_token
    assert (found, token) == (["c4", "c3", "c2", "c1", "c0"], "")
    request = pb.ListClientsRequest(page_size=201, page_token="?")
    assert set((await refused(served.clients.ListClients(request))).fields) == {"page_size", "page_token"}

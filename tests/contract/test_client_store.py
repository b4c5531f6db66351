"""`ClientStore` over every backend, and the end of clients through the revocation log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import structs

from tests.contract.builders import NOW, a_client, a_client_secret, a_draft, a_session, an_end, digest
from token_service.core.clients.client import (
    GRANT_TYPES,
    AuthMethod,
    Client,
    ClientState,
    SecurityProfile,
    SubjectType,
)
from token_service.core.clients.store import ClientPosition, StoredClients
from token_service.core.policies.rights import May, Permission, Right
from token_service.core.sessions.session import SessionState
from token_service.errors import ClientDisabledError, StoreUnavailableError
from token_service.stores.sql import clients as sql_clients, log_append as sql_log
from token_service.tokens.revocation import RevocationTarget

CLIENT = RevocationTarget.CLIENT
FULL: dict[str, Any] = {
    "client_name": 'Sales "é"',
    "token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT,
    "jwks": '{"keys":[]}',
    "jwks_uri": "https://a.example/jwks",
    "accepts_endpoint_audience": True,
    "tls_client_auth_san_uri": "spiffe://example.org/app",
    "tls_client_auth_san_dns": "app.example.org",
    "grant_types": GRANT_TYPES,
    "scopes": ("a", "b"),
    "audiences": ("api",),
    "redirect_uris": ("https://a.example/cb",),
    "post_logout_redirect_uris": ("https://a.example/bye",),
    "backchannel_logout_uri": "https://a.example/out",
    "allowed_origins": ("https://a.example",),
    "classification": "restricted",
    "subject_type": SubjectType.PAIRWISE,
    "sector_identifier_uri": "https://a.example/sector",
    "first_party": True,
    "dpop_bound_access_tokens": True,
    "tls_client_certificate_bound_access_tokens": True,
    "require_pushed_authorization_requests": True,
    "security_profile": SecurityProfile.FAPI2,
    "rights": (Right(permission=Permission.ISSUE, clients=("web",), may=(May.OTHER_SUBJECTS,)),),
}


async def revision_of(stores):
    return (await stores.log.head()).client_revision


async def test_is_empty_at_first(stores):
    assert await stores.clients.load() == StoredClients(0, [])
    assert await stores.clients.get("web") is None
    assert await stores.clients.list(10, None) == []
    assert await revision_of(stores) == 0


async def test_created_client_is_returned_by_every_node(pair):
    secrets = (a_client_secret("a"), a_client_secret("b", create_time=NOW + 1, expire_time=NOW + 9.25))
    client = a_client(**FULL, secrets=secrets)
    created = await pair[0].clients.create(client)
    assert created == structs.replace(client, revision=1)
    assert await pair[1].clients.get("web") == created
    assert await pair[1].clients.load() == StoredClients(1, [created])
    assert await pair[1].clients.list(10, None) == [created]
    assert await revision_of(pair[1]) == 1
    assert set(FULL) == set(Client.__struct_fields__) - {
        "client_id",
        "secrets",
        "state",
        "create_time",
        "update_time",
        "revision",
    }


async def test_id_is_never_given_to_another_client(stores):
    await stores.clients.create(a_client(secrets=(a_client_secret(),)))
    for state in (ClientState.ACTIVE, ClientState.DISABLED, ClientState.DELETED):
        if state is not ClientState.ACTIVE:
            await stores.log.append([an_end("web", state)])
        before = await stores.clients.load()
        assert await stores.clients.create(a_client(secrets=(a_client_secret("other"),))) is None
        assert await stores.clients.load() == before
        assert await revision_of(stores) == before.revision


async def test_one_of_several_concurrent_creations_wins(pair):
    made = await asyncio.gather(*(pair[n % 2].clients.create(a_client(client_name=str(n))) for n in range(8)))
    [created] = [client for client in made if client is not None]
    assert await pair[0].clients.load() == StoredClients(1, [created])


async def test_save_is_a_compare_and_set(pair):
    created = await pair[0].clients.create(a_client(secrets=(a_client_secret(),)))
    changed = structs.replace(
        created, client_name="new", update_time=NOW + 5, state=ClientState.DISABLED, secrets=()
    )
    saved = await pair[1].clients.save(changed)
    assert saved == structs.replace(changed, revision=2)
    assert await pair[0].clients.get("web") == saved
    for stale in (created, structs.replace(created, revision=3), a_client("unknown")):
        assert await pair[0].clients.save(stale) is None
    assert await pair[0].clients.load() == StoredClients(2, [saved])


async def test_one_of_several_concurrent_saves_wins(pair):
    client = await pair[0].clients.create(a_client())
    for _ in range(4):
        answers = await asyncio.gather(
            *(pair[n % 2].clients.save(structs.replace(client, client_name=str(n))) for n in range(6))
        )
        [client] = [answer for answer in answers if answer is not None]
    assert await pair[1].clients.load() == StoredClients(5, [client])


async def test_rotation_adds_and_removes_secrets_and_keeps_their_last_use(stores):
    old, new = a_client_secret("old"), a_client_secret("new", create_time=NOW + 1)
    client = await stores.clients.create(a_client(secrets=(old,)))
    await stores.clients.note_use("web", "old", NOW + 7.5)
    await stores.clients.note_use("web", "old", NOW + 6)
    assert (await stores.clients.get("web")).revision == 1
    rotated = structs.replace(client, secrets=(structs.replace(old, expire_time=NOW + 99), new))
    saved = await stores.clients.save(rotated)
    used = structs.replace(old, expire_time=NOW + 99, last_use_time=NOW + 7.5)
    assert saved.secrets == (used, new)
    assert (await stores.clients.get("web")).secrets == (used, new)
    saved = await stores.clients.save(structs.replace(saved, secrets=(new,)))
    assert saved.secrets == (new,)
    assert (await stores.clients.get("web")).secrets == (new,)


async def test_list_pages_from_newest_to_oldest_without_deleted_clients(stores):
    for number in range(7):
        # Pairs share a time, so the ids decide.
        await stores.clients.create(a_client(f"c{number}", create_time=NOW + number // 2))
    await stores.log.append([an_end("c4", ClientState.DELETED), an_end("c5", ClientState.DISABLED)])
    found, after = [], None
    for _ in range(4):
        page = await stores.clients.list(2, after)
        found += [client.client_id for client in page]
        if page:
            after = ClientPosition(page[-1].create_time, page[-1].client_id)
    assert found == ["c6", "c5", "c3", "c2", "c1", "c0"]


async def test_load_returns_changes_after_a_revision(stores, monkeypatch):
    monkeypatch.setattr(sql_clients, "_PAGE", 2)
    for number in range(5):
        await stores.clients.create(a_client(f"c{number}", secrets=(a_client_secret(f"s{number}"),)))
    first = await stores.clients.load()
    assert [client.client_id for client in first.clients] == ["c0", "c1", "c2", "c3", "c4"]
    assert [client.secrets[0].secret_id for client in first.clients] == ["s0", "s1", "s2", "s3", "s4"]
    await stores.clients.save(structs.replace(first.clients[1], client_name="new"))
    await stores.log.append([an_end("c3", ClientState.DELETED)])
    later = await stores.clients.load(first.revision)
    assert later.revision == 7
    assert [(client.client_id, client.revision, client.state.value) for client in later.clients] == [
        ("c1", 6, "active"),
        ("c3", 7, "deleted"),
    ]
    assert await stores.clients.load(7) == StoredClients(7, [])


@pytest.mark.parametrize("state", [ClientState.DISABLED, ClientState.DELETED])
async def test_end_revokes_and_changes_the_client_in_one_transaction(pair, state):
    await pair[0].clients.create(a_client(**FULL, secrets=(a_client_secret(),)))
    await pair[0].clients.create(a_client("other"))
    session, _ = await pair[0].sessions.create(a_session(), None)
    head, entries = await pair[0].log.append([an_end("web", state), a_draft(CLIENT, "unregistered")])
    assert [(entry.target, entry.value) for entry in entries] == [(CLIENT, "web"), (CLIENT, "unregistered")]
    assert head.client_revision == 3 == await revision_of(pair[1])
    ended = await pair[1].clients.get("web")
    assert (ended.state, ended.revision, ended.update_time) == (state, 3, NOW + 20)
    if state is ClientState.DELETED:
        assert (ended.secrets, ended.jwks, ended.redirect_uris) == ((), "", ())
    else:
        assert (ended.secrets, ended.client_name) == ((a_client_secret(),), 'Sales "é"')
    assert (await pair[1].sessions.get(session.id)).state(NOW + 1) is SessionState.REVOKED
    assert (await pair[1].clients.get("other")).state is ClientState.ACTIVE


async def test_end_that_does_not_apply_leaves_no_entry(stores):
    client = await stores.clients.create(a_client())
    draft = a_draft(RevocationTarget.TOKEN_ID, "t")
    refused = [
        an_end("unknown", ClientState.DISABLED),
        an_end("web", ClientState.DISABLED, revision=client.revision + 1),
    ]
    head, entries = await stores.log.append([*refused, draft])
    assert ([entry.value for entry in entries], head.sequence, head.client_revision) == (["t"], 1, 1)
    assert await stores.clients.get("web") == client
    await stores.log.append([an_end("web", ClientState.DISABLED, revision=client.revision)])
    before = await stores.clients.load()
    _, entries = await stores.log.append([an_end("web", ClientState.DISABLED)])
    assert entries == []
    assert await stores.clients.load() == before
    await stores.log.append([an_end("web", ClientState.DELETED)])
    for state in (ClientState.DISABLED, ClientState.DELETED):
        assert (await stores.log.append([an_end("web", state)]))[1] == []
    deleted = await stores.clients.get("web")
    assert await stores.clients.save(structs.replace(deleted, state=ClientState.ACTIVE)) is None


async def test_session_of_an_ended_client_is_refused_in_its_own_statement(pair):
    client = await pair[0].clients.create(a_client())
    await pair[0].sessions.create(a_session(), None)
    await pair[0].log.append([an_end("web", ClientState.DISABLED)])
    for request in (None, digest("request")):
        with pytest.raises(ClientDisabledError):
            await pair[1].sessions.create(a_session(), request)
    await pair[0].sessions.create(a_session(client_id="unregistered"), None)
    disabled = await pair[0].clients.get("web")
    await pair[0].clients.save(structs.replace(disabled, state=ClientState.ACTIVE))
    enabled, inserted = await pair[1].sessions.create(a_session(), digest("request"))
    assert inserted
    assert enabled.state(NOW + 1) is SessionState.ACTIVE
    assert client.revision == 1


async def test_no_session_survives_the_end_of_its_client(pair):
    """Sessions are inserted while the client is disabled, through the other node."""
    await pair[0].clients.create(a_client())
    live = []
    enough = asyncio.Event()

    async def insert():
        while True:
            try:
                session, _ = await pair[1].sessions.create(a_session(), None)
            except ClientDisabledError:
                return
            live.append(session.id)
            await asyncio.sleep(0.01)  # SQLite gives the lock to a waiting node only in a pause
            if len(live) >= 5:
                enough.set()

    async def disable():
        await enough.wait()
        await pair[0].log.append([an_end("web", ClientState.DISABLED)])

    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        for work in (insert, insert, insert, insert, disable):
            group.create_task(work())
    for session_id in live:
        assert (await pair[0].sessions.get(session_id)).state(NOW + 1) is SessionState.REVOKED


async def test_load_reads_clients_and_revision_from_one_snapshot(pair):
    async def change():
        for number in range(20):
            await pair[0].clients.create(a_client(f"c{number}", secrets=(a_client_secret(),)))

    async def load():
        while True:
            loaded = await pair[1].clients.load()
            assert [len(client.secrets) for client in loaded.clients] == [1] * loaded.revision
            if loaded.revision == 20:
                return
            await asyncio.sleep(0)

    async with asyncio.timeout(100):
        await asyncio.gather(change(), load())


async def test_clients_share_equal_lists_in_memory(sql_backend):
    async with sql_backend.open() as stores:
        for client_id in ("a", "b"):
            await stores.clients.create(a_client(client_id, scopes=("one", "two"), audiences=("api",)))
        one, other = (await stores.clients.load()).clients
    assert one.scopes is other.scopes
    assert one.audiences is other.audiences


async def test_damaged_row_disables_its_client_alone(sql_backend, caplog):
    async with sql_backend.open() as stores:
        for client_id in ("damaged", "web"):
            await stores.clients.create(a_client(client_id))
        async with stores._database.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE clients SET metadata = '{' WHERE client_id = 'damaged'"))
        loaded = await stores.clients.load()
    assert {client.client_id: client.state.value for client in loaded.clients} == {
        "damaged": "disabled",
        "web": "active",
    }
    assert "client damaged is treated as disabled" in caplog.text


@pytest.mark.parametrize("state", [ClientState.DISABLED, ClientState.DELETED])
async def test_failure_between_end_and_revocation_leaves_neither(sql_backend, monkeypatch, state):
    async with sql_backend.open() as stores:
        await stores.clients.create(a_client(**FULL, secrets=(a_client_secret(),)))
        before, head = await stores.clients.load(), await stores.log.head()
        ended = []

        async def end_and_fail(connection, drafts, revision):
            ended.append(await sql_clients.end_clients(connection, drafts, revision))
            raise StoreUnavailableError

        with monkeypatch.context() as patched:
            patched.setattr(sql_log, "end_clients", end_and_fail)
            with pytest.raises(StoreUnavailableError):
                await stores.log.append([an_end("web", state)])
        assert ended == [(1, set())]
        assert (await stores.clients.load(), await stores.log.head()) == (before, head)
        with monkeypatch.context() as patched:
            # The statement after the entry fails.
            refused = {"kind": None, "target": "web", "sequence": 1, "raise_time": 1}
            patched.setattr(sql_log, "floors_of", lambda *_: [refused])
            with pytest.raises(Exception, match=r".+"):
                await stores.log.append([an_end("web", state)])
        assert (await stores.clients.load(), await stores.log.head()) == (before, head)
        await stores.log.append([an_end("web", state)])
        assert (await stores.clients.get("web")).state is state

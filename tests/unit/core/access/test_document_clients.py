"""Clients that describe themselves: fetched once, held for a limited time, never instead of registered ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.access import document_clients
from token_service.core.access.caller import Caller
from token_service.core.access.document_clients import (
    DOCUMENT_LAST_GOOD,
    FETCH_RETRY,
    FETCH_TIMEOUT,
    MAX_FETCHES,
    MAX_FETCHES_PER_ASKER,
    MAX_FETCHES_PER_HOST,
    DocumentClients,
)
from token_service.core.clients.client import AuthMethod, ClientMetadata
from token_service.core.clients.documents import (
    DocumentRules,
    FetchedDocument,
    UnusableDocumentError,
    client_of_document,
)
from token_service.core.policies.policy import Policy, PolicyBook
from token_service.errors import (
    ClientDisabledError,
    ClientDocumentUnavailableError,
    ClientNotFoundError,
    InvalidReason,
    OverloadedError,
    SessionRevokedError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import RevocationTarget

URL = "https://app.example/client"
LIFETIME = 600.0
WITH_REFRESH = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})


def document(url: str = URL, **members: Any) -> bytes:
    grants = ["authorization_code", "refresh_token"]
    content = {
        "client_id": url,
        "redirect_uris": ["https://app.example/cb"],
        "grant_types": grants,
        **members,
    }
    return json.dumps(content).encode()


class Documents:
    """A source that answers with `answer(url)`, and counts the fetches."""

    def __init__(self, answer: Callable[[str], bytes] = document) -> None:
        self.answer = answer
        self.fetched: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, url: str) -> FetchedDocument:
        self.fetched.append(url)
        await self.open.wait()
        return FetchedDocument(self.answer(url), LIFETIME)

    def fail(self) -> None:
        def answer(url: str) -> bytes:
            raise UnusableDocumentError("no connection")

        self.answer = answer


async def a_node(
    documents: Documents, *, hosts: tuple[str, ...] = (), classification: str = "", **options: Any
) -> tuple[Node[LoopClock], DocumentClients]:
    rules = DocumentRules(hosts, classification=classification)
    node = await Node(LoopClock(), documents=documents, document_rules=rules, **options).start()
    known = node.core.known_clients
    assert isinstance(known, DocumentClients)
    return node, known


async def register(node: Node[LoopClock], client_id: str = URL, **settings: Any) -> None:
    await node.core.client_administration.create(
        Caller.system(), client_id, ClientMetadata(**settings), node.clock.now()
    )


@virtual_time
async def test_unknown_id_is_fetched_once_and_then_held() -> None:
    documents = Documents()
    _, clients = await a_node(documents)
    assert clients.get(URL) is None
    client = await clients.resolve(URL, "a")
    assert client == client_of_document(URL, document(), DocumentRules(), client.create_time if client else 0)
    assert await clients.resolve(URL, "b") is client
    assert clients.get(URL) is client
    assert documents.fetched == [URL]


@virtual_time
async def test_concurrent_calls_share_one_fetch_and_none_cancels_it() -> None:
    documents = Documents()
    _, clients = await a_node(documents)
    documents.open.clear()
    calls = [asyncio.create_task(clients.resolve(URL, number)) for number in range(5)]
    await asyncio.sleep(0.1)
    calls[0].cancel()
    await asyncio.sleep(0.1)
    documents.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {getattr(answer, "client_id", None) for answer in answers[1:]} == {URL}
    assert documents.fetched == [URL]


@virtual_time
async def test_document_is_fetched_again_after_its_lifetime_and_its_changes_count() -> None:
    documents = Documents()
    _, clients = await a_node(documents)
    await clients.resolve(URL, "a")
    await asyncio.sleep(LIFETIME - 1)
    await clients.resolve(URL, "a")
    assert len(documents.fetched) == 1
    documents.answer = lambda url: document(url, client_name="renamed")
    await asyncio.sleep(2)
    client = await clients.resolve(URL, "a")
    assert client is not None
    assert client.client_name == "renamed"
    assert len(documents.fetched) == 2


@virtual_time
async def test_held_document_survives_failing_fetches_for_a_limited_time() -> None:
    documents = Documents()
    _, clients = await a_node(documents)
    held = await clients.resolve(URL, "a")
    documents.fail()
    await asyncio.sleep(LIFETIME + DOCUMENT_LAST_GOOD - 1)
    assert await clients.resolve(URL, "a") is held
    assert await clients.resolve(URL, "a") is held
    assert len(documents.fetched) == 2  # the second one failed a moment ago
    await asyncio.sleep(FETCH_RETRY + 1)
    assert clients.get(URL) is None
    with pytest.raises(ClientDocumentUnavailableError):
        await clients.resolve(URL, "a")


@virtual_time
async def test_document_that_is_no_longer_valid_ends_the_client_at_once() -> None:
    documents = Documents()
    _, clients = await a_node(documents)
    await clients.resolve(URL, "a")
    documents.answer = lambda _url: document("https://other.example/client")
    await asyncio.sleep(LIFETIME + 1)
    with pytest.raises(ClientDocumentUnavailableError):
        await clients.resolve(URL, "a")
    assert clients.get(URL) is None


@virtual_time
async def test_failed_fetch_is_not_repeated_for_a_short_time() -> None:
    documents = Documents()
    documents.fail()
    _, clients = await a_node(documents)
    for _ in range(3):
        with pytest.raises(ClientDocumentUnavailableError) as caught:
            await clients.resolve(URL, "a")
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= FETCH_RETRY
        assert "no connection" not in str(caught.value)
    assert len(documents.fetched) == 1
    documents.answer = document
    await asyncio.sleep(FETCH_RETRY)
    assert await clients.resolve(URL, "a") is not None


@virtual_time
async def test_server_that_does_not_answer_costs_a_bounded_time() -> None:
    documents = Documents()
    documents.open.clear()
    _, clients = await a_node(documents)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ClientDocumentUnavailableError):
        await clients.resolve(URL, "a")
    assert asyncio.get_running_loop().time() - began == pytest.approx(FETCH_TIMEOUT)


@virtual_time
async def test_ids_of_other_forms_and_hosts_are_never_fetched() -> None:
    documents = Documents()
    _, clients = await a_node(documents, hosts=("app.example",))
    for client_id in ("web", "http://app.example/c", "https://app.example/../c", "https://b.example/c", ""):
        assert await clients.resolve(client_id, "a") is None
    assert documents.fetched == []


@virtual_time
@pytest.mark.parametrize("state", ["active", "disabled", "deleted"])
async def test_registered_client_in_any_state_wins(state: str) -> None:
    documents = Documents()
    node, clients = await a_node(documents)
    await clients.resolve(URL, "a")  # known from its document before
    await register(node, client_name="registered", token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC)
    if state == "disabled":
        await node.core.client_administration.disable(Caller.system(), URL, node.clock.now())
    elif state == "deleted":
        await node.core.client_administration.delete(Caller.system(), URL, node.clock.now())
    found = await clients.resolve(URL, "a")
    assert found is clients.get(URL) is node.clients.get(URL)
    assert found is not None
    assert found.state.value == state
    if state != "active":
        with pytest.raises(ClientDisabledError):
            await node.issue(client_id=URL)
    assert documents.fetched == [URL]


@virtual_time
async def test_client_registered_during_a_fetch_wins() -> None:
    documents = Documents()
    node, clients = await a_node(documents)
    documents.open.clear()
    call = asyncio.create_task(clients.resolve(URL, "a"))
    await asyncio.sleep(0.1)
    await register(node, client_name="registered")
    documents.open.set()
    found = await call
    assert found is not None
    assert found.client_name == "registered"


# --- Floods ---------------------------------------------------------------------------------------------------------


@virtual_time
async def test_fetches_for_invented_ids_are_limited_by_asker_host_and_in_all() -> None:
    documents = Documents()
    documents.fail()
    _, clients = await a_node(documents)

    async def refused(url: str, asker: object) -> bool:
        with pytest.raises((OverloadedError, ClientDocumentUnavailableError)) as caught:
            await clients.resolve(url, asker)
        return isinstance(caught.value, OverloadedError)

    by_asker = [await refused(f"https://h{n}.example/", "one") for n in range(MAX_FETCHES_PER_ASKER + 1)]
    assert by_asker == [False] * MAX_FETCHES_PER_ASKER + [True]
    by_host = [await refused(f"https://victim.example/{n}", n) for n in range(MAX_FETCHES_PER_HOST + 1)]
    assert by_host == [False] * MAX_FETCHES_PER_HOST + [True]
    left = MAX_FETCHES - MAX_FETCHES_PER_ASKER - MAX_FETCHES_PER_HOST
    in_all = [await refused(f"https://g{n}.example/", f"asker {n}") for n in range(left + 1)]
    assert in_all == [False] * left + [True]
    assert len(documents.fetched) == MAX_FETCHES


@virtual_time
async def test_flood_does_not_keep_a_known_client_from_its_refresh() -> None:
    documents = Documents()
    _, clients = await a_node(documents)
    await clients.resolve(URL, "good")
    await asyncio.sleep(LIFETIME + 1)
    for number in range(MAX_FETCHES):
        await clients.resolve(f"https://h{number}.example/", number)
    with pytest.raises(OverloadedError):
        await clients.resolve("https://another.example/", "another")
    assert await clients.resolve(URL, "good") is not None
    assert documents.fetched[-1] == URL


@virtual_time
async def test_number_of_held_documents_is_bounded_and_the_least_used_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(document_clients, "MAX_DOCUMENTS", 2)
    documents = Documents()
    _, clients = await a_node(documents)
    a, b, c = (f"https://{name}.example/" for name in "abc")
    for url in (a, b, a, c):
        await clients.resolve(url, "asker")
    assert [url for url in (a, b, c) if clients.get(url)] == [a, c]
    assert len(clients) == 2


# --- Tokens ---------------------------------------------------------------------------------------------------------


@virtual_time
async def test_described_client_gets_and_refreshes_tokens_where_clients_must_be_registered() -> None:
    documents = Documents()
    node, _ = await a_node(documents, require_registered_clients=True)
    tokens = await node.issue(client_id=URL, kinds=WITH_REFRESH)
    refreshed = await node.refresh(tokens.refresh_token, client_id=URL)
    assert refreshed.access_token
    assert documents.fetched == [URL]
    restarted, _ = await a_node(documents, stores=node.stores, require_registered_clients=True)
    assert (await restarted.refresh(refreshed.refresh_token, client_id=URL)).access_token
    assert documents.fetched == [URL, URL]


@virtual_time
async def test_revocation_of_a_described_client_ends_its_tokens_and_sessions() -> None:
    node, _ = await a_node(Documents(), require_registered_clients=True)
    tokens = await node.issue(client_id=URL, kinds=WITH_REFRESH)
    await node.revoke(target=RevocationTarget.CLIENT, value=URL)
    assert (await node.validate(tokens.access_token)).reason is InvalidReason.REVOKED
    with pytest.raises(SessionRevokedError):
        await node.refresh(tokens.refresh_token, client_id=URL)


@virtual_time
async def test_client_without_a_document_gets_no_tokens_where_clients_must_be_registered() -> None:
    documents = Documents()
    documents.fail()
    node, _ = await a_node(documents, require_registered_clients=True)
    with pytest.raises(ClientDocumentUnavailableError):
        await node.issue(client_id=URL)
    with pytest.raises(ClientNotFoundError):
        await node.issue(client_id="web")


@virtual_time
async def test_failed_fetch_changes_nothing_where_clients_need_not_be_registered() -> None:
    documents = Documents()
    documents.fail()
    node, _ = await a_node(documents)
    assert (await node.issue(client_id=URL)).access_token


@virtual_time
async def test_described_client_has_the_classification_of_the_operator() -> None:
    documents = Documents()
    node, _ = await a_node(documents, classification="public")
    node.policies.book = PolicyBook({"internal": Policy(), "public": Policy(access_token_ttl=77)})
    tokens = await node.issue(client_id=URL)
    assert tokens.access_token_expire_time is not None
    assert tokens.access_token_expire_time - int(node.clock.now()) == 77


async def test_without_a_source_only_the_registry_describes_clients() -> None:
    node = Node(LoopClock())
    assert node.core.known_clients is node.clients

"""Sectors of clients with pairwise subjects, and who may join them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.clients.client import Client, ClientMetadata, SubjectType
from token_service.core.clients.sectors import SECTOR_TIMEOUT, UnusableSectorError, sector_of
from token_service.errors import InvalidRequestError
from token_service.tokens.secret import Secret

KEY = Secret(bytes(range(32)))
ONE_HOST = ("https://a.example/cb", "https://a.example:8443/cb2")
SECTOR = "https://group.example/sector.json"


def pairwise(*redirect_uris: str, sector: str = "") -> ClientMetadata:
    return ClientMetadata(
        subject_type=SubjectType.PAIRWISE, redirect_uris=redirect_uris, sector_identifier_uri=sector
    )


class Sectors:
    """Answers every request for the document of a sector with `listed`."""

    def __init__(self) -> None:
        self.listed: Collection[str] | Exception = ()
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def redirect_uris(self, url: str) -> Collection[str]:
        self.asked.append(url)
        await self.open.wait()
        if isinstance(self.listed, Exception):
            raise self.listed
        return self.listed


async def a_node(sectors: Sectors, key: Secret | None = KEY) -> Node[LoopClock]:
    return await Node(LoopClock(), pairwise_key=key, sectors=sectors).start()


async def create(node: Node[LoopClock], metadata: ClientMetadata, client_id: str = "rp") -> Client:
    administration = node.core.client_administration
    return (await administration.create(Caller.system(), client_id, metadata, node.clock.now())).client


async def update(node: Node[LoopClock], **changes: Any) -> Client:
    administration = node.core.client_administration
    return await administration.update(Caller.system(), "rp", changes, node.clock.now())


def fields(caught: pytest.ExceptionInfo[InvalidRequestError]) -> list[str]:
    return [violation.field for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("redirect_uris", "sector_uri", "sector"),
    [
        (ONE_HOST, "", "a.example"),
        (("https://a.example/cb", "https://b.example/cb"), "", ""),
        (("https://a.example/cb", "http://127.0.0.1/cb"), "", ""),
        (("http://127.0.0.1/cb",), "", ""),
        (("com.example.app:/cb",), "", ""),
        ((), "", ""),
        (("https://a.example/cb", "https://b.example/cb"), SECTOR, "group.example"),
        (ONE_HOST, SECTOR, "group.example"),
    ],
)
def test_sector_is_the_named_host_or_the_one_of_the_redirect_uris(
    redirect_uris: tuple[str, ...], sector_uri: str, sector: str
) -> None:
    assert sector_of(pairwise(*redirect_uris, sector=sector_uri)) == sector


@virtual_time
async def test_client_without_a_sector_can_not_have_pairwise_subjects() -> None:
    node = await a_node(sectors := Sectors())
    with pytest.raises(InvalidRequestError) as caught:
        await create(node, pairwise("https://a.example/cb", "https://b.example/cb"))
    assert fields(caught) == ["sector_identifier_uri"]
    await create(node, pairwise(*ONE_HOST))
    with pytest.raises(InvalidRequestError):
        await update(node, redirect_uris=("https://a.example/cb", "http://127.0.0.1/cb"))
    assert sectors.asked == []


@virtual_time
async def test_document_of_the_sector_must_list_all_redirect_uris() -> None:
    node = await a_node(sectors := Sectors())
    sectors.listed = {"https://a.example/cb"}
    with pytest.raises(InvalidRequestError) as caught:
        await create(node, pairwise("https://a.example/cb", "https://b.example/cb", sector=SECTOR))
    assert fields(caught) == ["redirect_uris[1]"]
    sectors.listed = {"https://a.example/cb", "https://b.example/cb", "https://other.example/cb"}
    created = await create(node, pairwise("https://a.example/cb", "https://b.example/cb", sector=SECTOR))
    assert created.subject_type is SubjectType.PAIRWISE
    with pytest.raises(InvalidRequestError) as caught:
        await update(node, redirect_uris=("https://evil.example/cb",))
    assert fields(caught) == ["redirect_uris[0]"]
    assert sectors.asked == [SECTOR] * 3


@virtual_time
async def test_other_changes_and_public_clients_need_no_document() -> None:
    node = await a_node(sectors := Sectors())
    await create(node, ClientMetadata(redirect_uris=ONE_HOST, sector_identifier_uri=SECTOR))
    assert sectors.asked == []
    sectors.listed = ONE_HOST
    await update(node, subject_type=SubjectType.PAIRWISE)
    assert sectors.asked == [SECTOR]
    sectors.listed = UnusableSectorError("away")
    assert (await update(node, client_name="renamed")).client_name == "renamed"
    assert (await update(node, redirect_uris=ONE_HOST)).redirect_uris == ONE_HOST
    assert sectors.asked == [SECTOR]


@virtual_time
async def test_document_that_can_not_be_fetched_refuses_the_change(caplog: pytest.LogCaptureFixture) -> None:
    node = await a_node(sectors := Sectors())
    sectors.listed = UnusableSectorError("10.0.0.1 is not a global address")
    with pytest.raises(InvalidRequestError) as caught:
        await create(node, pairwise(*ONE_HOST, sector=SECTOR))
    assert fields(caught) == ["sector_identifier_uri"]
    assert "10.0.0.1" not in str(caught.value)
    assert "10.0.0.1" in caplog.text


@virtual_time
async def test_document_that_does_not_come_costs_a_bounded_time() -> None:
    node = await a_node(sectors := Sectors())
    sectors.open.clear()
    began = asyncio.get_running_loop().time()
    with pytest.raises(InvalidRequestError):
        await create(node, pairwise(*ONE_HOST, sector=SECTOR))
    assert asyncio.get_running_loop().time() - began == pytest.approx(SECTOR_TIMEOUT)


@virtual_time
async def test_without_a_key_no_client_can_have_pairwise_subjects() -> None:
    node = await a_node(Sectors(), key=None)
    with pytest.raises(InvalidRequestError) as caught:
        await create(node, pairwise(*ONE_HOST))
    assert fields(caught) == ["subject_type"]
    assert "TOKEN_SERVICE_PAIRWISE_KEY" in str(caught.value)

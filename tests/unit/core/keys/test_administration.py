"""Signing keys are listed in pages, and requests for new ones are checked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.keys.administration import SigningKeys
from token_service.errors import InvalidRequestError

SYSTEM = Caller.system()


@pytest.fixture
async def node() -> Node:
    return await Node(ManualClock(), max_staleness=1e12).start()


@pytest.fixture
def signing_keys(node: Node) -> SigningKeys:
    return SigningKeys(node.keyring, node.key_manager)


async def test_pages_have_every_key_once_newest_first(node: Node, signing_keys: SigningKeys) -> None:
    clock: Any = node.clock
    made = [node.keyring.signer().key_id]
    for _ in range(4):
        clock.elapsed += 1
        made.append((await signing_keys.prepare(SYSTEM, "ES256", 0)).key_id)
    pages, token = [], ""
    while True:
        page = signing_keys.list(SYSTEM, 2, token)
        pages.append([key.key_id for key in page.keys])
        token = page.next_page_token
        if not token:
            break
    newest = made[::-1]
    assert pages == [newest[:2], newest[2:4], newest[4:]]
    assert [key.key_id for key in signing_keys.list(SYSTEM, 0, "").keys] == newest


@pytest.mark.parametrize(
    ("page_size", "page_token", "field"),
    [(-1, "", "page_size"), (201, "", "page_size"), (0, "x", "page_token"), (0, "AAAA", "page_token")],
)
async def test_a_wrong_page_is_refused(
    signing_keys: SigningKeys, page_size: int, page_token: str, field: str
) -> None:
    with pytest.raises(InvalidRequestError) as error:
        signing_keys.list(SYSTEM, page_size, page_token)
    assert [violation.field for violation in error.value.violations] == [field]


@pytest.mark.parametrize(
    ("algorithm", "rsa_bits", "fields"),
    [("HS256", 0, ["algorithm"]), ("RS256", 1024, ["rsa_bits"]), ("none", -1, ["algorithm", "rsa_bits"])],
)
async def test_a_key_that_may_not_be_made_is_refused(
    signing_keys: SigningKeys, algorithm: str, rsa_bits: int, fields: list[str]
) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await signing_keys.prepare(SYSTEM, algorithm, rsa_bits)
    assert [violation.field for violation in error.value.violations] == fields
    assert len(signing_keys.list(SYSTEM, 0, "").keys) == 1

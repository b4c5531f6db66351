"""docs/device-flow.md: its program gets tokens while a user goes through the pages over HTTP."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.integration.calls import Api
from tests.integration.nodes import Node, wait_for_client
from tests.integration.tour import DOCS, Tour, steps
from token_service.core.grants.device_authorization import MAX_REQUESTS_OF_ADDRESS, MAX_REQUESTS_OF_CLIENT
from token_service.core.grants.device_codes import USER_CODE_ALPHABET, USER_CODE_LENGTH
from token_service.core.login.devices import MAX_CODES_OF_ADDRESS, MAX_CODES_OF_BROWSER
from token_service.v1 import authorization_service_pb2 as pb, authorization_service_pb2_grpc

TEXT = (DOCS / "device-flow.md").read_text()
ISSUER = "http://127.0.0.1:8080"
"""The default issuer, with any port."""
TIMEOUT = 60


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    policy = tmp_path_factory.mktemp("policy") / "policy.toml"
    policy.write_text(block("toml"))
    env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_POLICY_FILE": str(policy)}
    with Node(env=env) as node:
        with Tour(node, {"/var/lib/token-service": str(node.data_dir)}) as tour:
            for step in steps(TEXT, "device"):
                tour.run(step)
        wait_for_client(node, "tv")
        yield node


def field_of(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return unescape(found[1])


async def log_in(node: Node, page: httpx.Response) -> str:
    """Play the login service; return the URL that it sends the browser to."""
    found = re.search(r'<a href="(https://login.example.org/login[^"]*)"', page.text)
    assert found is not None, page.text
    (challenge,) = parse_qs(urlsplit(unescape(found[1])).query)["login_challenge"]
    async with Api(node.grpc_address) as api:
        stub = authorization_service_pb2_grpc.AuthorizationServiceStub(api.channel)
        asked = await stub.GetLoginRequest(
            pb.GetLoginRequestRequest(login_challenge=challenge), timeout=TIMEOUT
        )
        assert (asked.client_name, list(asked.scopes)) == ("Living-room TV", ["openid", "films:watch"])
        accepted = await stub.AcceptLoginRequest(
            pb.AcceptLoginRequestRequest(login_challenge=challenge, subject="alice"), timeout=TIMEOUT
        )
    return str(accepted.redirect_to).replace(ISSUER, node.http_url)


async def test_program_of_the_page_gets_tokens_when_its_user_approves(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "device.py"
    program.write_text(block("python").replace(ISSUER, node.http_url))
    device = await asyncio.create_subprocess_exec(sys.executable, program, stdout=asyncio.subprocess.PIPE)
    assert device.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT):
            said = (await device.stdout.readline()).decode()
            match = re.fullmatch(r"Open (\S+) and enter (\S+)\n", said)
            assert match is not None, said
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as browser:
                await approve(browser, node, *match.groups())
            output, _ = await device.communicate()
    finally:
        if device.returncode is None:
            device.kill()
            await device.wait()
    assert output.decode() == "connected: openid films:watch\n"


async def approve(browser: httpx.AsyncClient, node: Node, url: str, user_code: str) -> None:
    assert url == f"{ISSUER}/device"
    url = url.replace(ISSUER, node.http_url)
    page = await browser.get(url)
    entered: dict[str, Any] = {"ticket": field_of(page, "ticket"), "user_code": user_code.lower()}
    page = await browser.post(url, data=entered)
    page = await browser.get(await log_in(node, page))
    assert "Living-room TV" in page.text
    assert user_code in page.text
    page = await browser.post(url, data={"ticket": field_of(page, "ticket"), "decision": "approve"})
    assert page.status_code == 200
    assert "The device is connected" in page.text


def test_numbers_of_the_page_match_the_code() -> None:
    text = re.sub(r"\s+", " ", TEXT)
    codes = len(USER_CODE_ALPHABET) ** USER_CODE_LENGTH
    assert MAX_CODES_OF_ADDRESS.period == MAX_CODES_OF_BROWSER.period == 600
    assert MAX_REQUESTS_OF_CLIENT.period == MAX_REQUESTS_OF_ADDRESS.period == 600
    for said in (
        f"{USER_CODE_LENGTH} of {len(USER_CODE_ALPHABET)} consonants: 20^8 = {codes / 1e10:.1f} * 10^10 codes",
        f"may try {MAX_CODES_OF_ADDRESS.amount} codes in 10 min, a browser {MAX_CODES_OF_BROWSER.amount};",
        f"with a probability of {1000 * MAX_CODES_OF_ADDRESS.amount * 1000 / codes:.2%}".replace("%", " %"),
        f"may have {MAX_REQUESTS_OF_CLIENT.amount:,} requests in 10 min, an address {MAX_REQUESTS_OF_ADDRESS.amount};",
    ):
        assert said in text, said

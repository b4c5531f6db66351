"""docs/oauth.md: its commands and its Python program print what the page shows, and its table of errors is complete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.calls import TIMEOUT
from tests.integration.nodes import wait_for_client
from tests.integration.oauth.identity_provider import IdentityProvider
from tests.integration.oauth.node import OAuthNode
from tests.integration.oauth.postman import COLLECTION, requests_of
from tests.integration.tour import DOCS, GRPC_ADDRESS, HTTP_ADDRESS, Step, Tour, steps
from token_service.errors import Reason
from token_service.web.oauth.discovery import authorization_members
from token_service.wire import OAUTH_ERROR

PAGE = DOCS / "oauth.md"
TEXT = PAGE.read_text()
PAGE_OF_ENDPOINT = {
    "/authorize": "login.md",
    "/par": "login.md",
    "/userinfo": "logout.md",
    "/end_session": "logout.md",
    "/device_authorization": "device-flow.md",
}
"""The pages of the announced endpoints that this page is not about."""
_DATA_DIR = '"$PWD/.token-service"'


def page_tour(node: OAuthNode) -> Tour:
    """Return a shell in which the addresses and the data directory of the page are those of a node."""
    return Tour(node, {_DATA_DIR: f'"{node.data_dir}"'})


def run_step(tour: Tour, node: OAuthNode, step: Step) -> None:
    """Run a step and compare its output with the page."""
    output = tour.run(step)
    shown = (step.shown or "").strip()
    assert output.strip() == shown, f"{step.code}\nprints now:\n{output}"
    if "clients create" in step.code:
        # A node learns of a client within moments, which is less than a reader needs for the next command.
        wait_for_client(node, "app")


@pytest.fixture(scope="module")
def node() -> Iterator[OAuthNode]:
    with IdentityProvider("orders:read") as provider, OAuthNode(env=provider.settings) as running:
        yield running


def test_the_page_prints_what_it_shows(node: OAuthNode) -> None:
    page_steps = steps(TEXT, "oauth")
    assert [step.language for step in page_steps].count("python") == 1
    with page_tour(node) as tour:
        for step in page_steps:
            run_step(tour, node, step)


def test_addresses_of_the_page_are_those_of_the_tour() -> None:
    assert GRPC_ADDRESS in TEXT
    assert HTTP_ADDRESS in TEXT


def test_the_page_has_a_row_for_every_error_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d, ]+) \|", TEXT, re.MULTILINE)
    codes = {OAUTH_ERROR[reason] for reason in Reason} | {"invalid_scope", "invalid_target"}
    assert {code for code, _ in rows} == codes | {"invalid_token", "insufficient_scope"}


def test_page_and_collection_have_every_endpoint_and_grant_type(node: OAuthNode) -> None:
    metadata = httpx.get(
        f"{node.http_url}/.well-known/openid-configuration", trust_env=False, timeout=TIMEOUT
    ).json()
    requests = [item["request"] for item in requests_of(json.loads(COLLECTION.read_text()))]
    paths = {request["url"].removeprefix("{{base_url}}") for request in requests}
    sent = {
        pair["value"]
        for request in requests
        for pair in request.get("body", {}).get("urlencoded", ())
        if pair["key"] == "grant_type"
    }
    endpoints = {
        value.removeprefix(node.issuer)
        for name, value in metadata.items()
        if name.endswith(("_endpoint", "_uri"))
    }
    elsewhere = {
        value.removeprefix(node.issuer)
        for name, value in authorization_members(node.issuer, must_push=False).items()
        if name.endswith("_endpoint")
    }
    assert PAGE_OF_ENDPOINT.keys() <= endpoints | elsewhere
    assert elsewhere <= PAGE_OF_ENDPOINT.keys()
    for path, page in PAGE_OF_ENDPOINT.items():
        assert re.search(rf"`(?:GET |POST )*{path}`|\"{path}\"", (DOCS / page).read_text()), path
        assert f"({page})" in TEXT, page
    endpoints -= PAGE_OF_ENDPOINT.keys()
    assert endpoints <= paths
    assert {*metadata["grant_types_supported"]} <= sent
    assert all(path in TEXT for path in endpoints)
    assert all(grant_type in TEXT for grant_type in metadata["grant_types_supported"])


def test_collection_holds_no_secret() -> None:
    values = {each["key"]: each["value"] for each in json.loads(COLLECTION.read_text())["variable"]}
    assert {values[name] for name in ("client_secret", "code", "assertion", "revocation_jwt")} == {""}

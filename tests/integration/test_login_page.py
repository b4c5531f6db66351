"""docs/login.md with real nodes: its login service, its client, and two nodes that share each login.

A load balancer sends every request to the other node. Invariant: if any node is killed at any moment, at most one
session is live for a login, and the client can start again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import grpc
import httpx
import jwt
import pytest

from tests.integration.login_page import REDIRECT_URI, TEXT, Browser, client, login_service
from tests.integration.nodes import Node, nodes
from tests.support.balancer import Balancer
from tests.support.deadline import eventually_sync
from tests.support.ports import free_port
from token_service.config.policy_file import PolicyFile
from token_service.core.grants.codes import CODE_TTL
from token_service.core.login.logins import LOGIN_TTL
from token_service.core.login.requests import MAX_LOGIN_HINT, MAX_STATE
from token_service.core.login.upstreams import ChallengeSettings
from token_service.v1 import (
    client_service_pb2,
    client_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)
from token_service.web.oauth.login_cookies import MAX_LOGINS

TIMEOUT = 60
(UPSTREAMS,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@dataclass
class Service:
    """Two nodes behind a load balancer, and a registered client."""

    nodes: list[Node]
    balancer: Balancer
    client_id: str

    def client(self) -> dict[str, Any]:
        return client(self.balancer.url, self.client_id)

    def sessions(self, node: Node, *, active_only: bool = True) -> list[Any]:
        """Return the sessions of the client, as a node knows them."""
        request = session_service_pb2.ListSessionsRequest(client_id=self.client_id, active_only=active_only)
        with grpc.insecure_channel(node.grpc_address) as channel:
            stub = session_service_pb2_grpc.SessionServiceStub(channel)
            return list(stub.ListSessions(request, timeout=TIMEOUT).sessions)


@pytest.fixture(scope="module")
def running(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Node], Balancer]]:
    port, login_port = free_port(), free_port()
    policies = tmp_path_factory.mktemp("login") / "policy.toml"
    policies.write_text(UPSTREAMS.replace("127.0.0.1:8090", f"127.0.0.1:{login_port}"))
    env = {
        "TOKEN_SERVICE_DATABASE_URL": database_url,
        "TOKEN_SERVICE_ISSUER": f"http://127.0.0.1:{port}",
        "TOKEN_SERVICE_POLICY_FILE": str(policies),
    }
    with Balancer(port) as balancer, nodes(2, env) as pair, login_service(pair[0].grpc_address, login_port):
        balancer.nodes = [node.http_address for node in pair]
        yield pair, balancer


@pytest.fixture
def service(running: tuple[list[Node], Balancer], monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pair, balancer = running
    request = client_service_pb2.CreateClientRequest(
        client=client_service_pb2.Client(
            token_endpoint_auth_method=client_service_pb2.TOKEN_ENDPOINT_AUTH_METHOD_NONE,
            grant_types=["authorization_code", "refresh_token"],
            redirect_uris=[REDIRECT_URI],
            scopes=["openid", "read"],
            first_party=True,
        )
    )
    with grpc.insecure_channel(pair[0].grpc_address) as channel:
        created = client_service_pb2_grpc.ClientServiceStub(channel).CreateClient(request, timeout=TIMEOUT)
    service = Service(pair, balancer, created.client.client_id)
    eventually_sync(lambda: all(_knows(node, service) for node in pair))
    return service


def _knows(node: Node, service: Service) -> bool:
    query = {"client_id": service.client_id, "redirect_uri": REDIRECT_URI}
    answer = httpx.get(f"{node.http_url}/authorize", params=query, trust_env=False, timeout=TIMEOUT)
    return answer.status_code == 303


def refresh(service: Service, refresh_token: str) -> Any:
    form = {"grant_type": "refresh_token", "client_id": service.client_id, "refresh_token": refresh_token}
    answer = httpx.post(f"{service.balancer.url}/token", data=form, trust_env=False, timeout=TIMEOUT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_programs_of_the_page_log_in_and_step_up_at_alternating_nodes(service: Service) -> None:
    app, browser = service.client(), Browser()
    service.balancer.sent.clear()
    url, kept = app["begin"](scope="openid read")
    tokens, claims = app["finish"](browser.log_in(url), kept)
    assert (claims["sub"], claims["acr"], claims["amr"]) == ("alice", "urn:example:pwd", ["pwd"])
    by_path = dict(service.balancer.sent)
    assert by_path["/authorize"] != by_path["/callback/inhouse"] != by_path["/token"]
    tokens = refresh(service, tokens["refresh_token"])
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="urn:example:pwd", max_age="300"'
    url, kept = app["begin"](**app["step_up"](challenge, tokens["id_token"]))
    assert browser.shown["user"] == ""
    raised, again = app["finish"](browser.log_in(url), kept)
    assert browser.shown["user"] == "alice"
    assert "refresh_token" not in raised
    assert again["sid"] == claims["sid"]
    after = jwt.decode(
        refresh(service, tokens["refresh_token"])["id_token"], options={"verify_signature": False}
    )
    assert after["auth_time"] == again["auth_time"] >= claims["auth_time"]
    assert len(service.sessions(service.nodes[1])) == 1


def test_request_pushed_at_one_node_is_used_at_the_other(service: Service) -> None:
    app, browser = service.client(), Browser()
    for _ in range(2):  # once for each node
        url, kept = app["begin"]()
        form = dict(parse_qsl(urlsplit(url).query))
        service.balancer.sent.clear()
        pushed = httpx.post(f"{service.balancer.url}/par", data=form, trust_env=False, timeout=TIMEOUT)
        assert pushed.status_code == 201, pushed.text
        query = {"client_id": service.client_id, "request_uri": pushed.json()["request_uri"]}
        back = browser.log_in(f"{service.balancer.url}/authorize?{urlencode(query)}")
        assert app["finish"](back, kept)[1]["sub"] == "alice"
        nodes_of = dict(service.balancer.sent)
        assert nodes_of["/par"] != nodes_of["/authorize"]


def test_wrong_password_and_no_interaction_are_told(service: Service) -> None:
    app = service.client()
    url, kept = app["begin"](prompt="none")
    with pytest.raises(PermissionError, match="login_required"):
        app["finish"](Browser().log_in(url), kept)
    url, _ = app["begin"]()
    with pytest.raises(AssertionError, match="Wrong user or password"):
        Browser().log_in(url, password="guess")
    with pytest.raises(AssertionError, match="Wrong user or password"):
        Browser().log_in(url, user="nobody", password="")


def test_longest_logins_fit_into_the_headers_of_a_node(service: Service) -> None:
    """As many logins as a browser keeps, each with the longest state; and fifty cookies of others."""
    app, browser = service.client(), Browser()
    longest = {"state": "s" * MAX_STATE, "login_hint": "h" * MAX_LOGIN_HINT}
    begun = [app["begin"](**longest) for _ in range(MAX_LOGINS)]
    *_, back = [browser.log_in(url, finish=False) for url, _ in begun]
    kept = begun[-1][1] | {"state": longest["state"]}
    assert app["finish"](browser.log_in(back), kept)[1]["sub"] == "alice"
    cookie = "; ".join(f"login-{n:022}={'x' * 100}" for n in range(50))
    url, _ = app["begin"]()
    for node in service.nodes:
        at_node = url.replace(service.balancer.url, node.http_url)
        answer = httpx.get(at_node, headers={"Cookie": cookie}, trust_env=False, timeout=TIMEOUT)
        assert answer.status_code == 303


def test_node_killed_between_code_and_token(service: Service) -> None:
    app = service.client()
    url, kept = app["begin"]()
    back = Browser().log_in(url)
    (killed,) = [
        node
        for node in service.nodes
        if ("/callback/inhouse", node.http_address) == service.balancer.sent[-1]
    ]
    killed.kill()
    try:
        assert app["finish"](back, kept)[1]["sub"] == "alice"
        (other,) = [node for node in service.nodes if node is not killed]
        assert len(service.sessions(other)) == 1
    finally:
        killed.restart()


@pytest.mark.parametrize("seen", [True, False])
def test_node_killed_between_the_session_and_its_answer(service: Service, *, seen: bool) -> None:
    """`seen`: kill after the insert; else at once. Either way the client never reads the answer."""
    app = service.client()
    url, kept = app["begin"]()
    back = Browser().log_in(url)
    killed, other = service.nodes[1], service.nodes[0]
    form = {
        "grant_type": "authorization_code",
        "client_id": service.client_id,
        "code": dict(parse_qsl(urlsplit(back).query))["code"],
        "code_verifier": kept["verifier"],
    }
    body = urlencode(form)
    host, port = killed.http_address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.sendall(
            f"POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        if seen:
            eventually_sync(lambda: service.sessions(other))
        killed.kill()
    try:
        # The database may still commit the insert of a killed node, so the answer decides whether there was one.
        answer = httpx.post(f"{service.balancer.url}/token", data=form, trust_env=False, timeout=TIMEOUT)
        sessions = service.sessions(other)
        if answer.status_code == 200:
            assert not seen
            assert len(sessions) == 1
        else:
            assert answer.json()["error"] == "invalid_grant"
            assert sessions == []
        assert len(service.sessions(other, active_only=False)) == 1
        url, kept = app["begin"]()
        assert app["finish"](Browser().log_in(url), kept)[1]["sub"] == "alice"
    finally:
        killed.restart()


def test_node_killed_during_a_step_up(service: Service) -> None:
    app = service.client()
    url, kept = app["begin"]()
    tokens, claims = app["finish"](Browser().log_in(url), kept)
    challenge = 'acr_values="urn:example:pwd", max_age="300"'
    url, kept = app["begin"](**app["step_up"](challenge, tokens["id_token"]))
    back = Browser().log_in(url)
    service.nodes[1].kill()
    try:
        assert app["finish"](back, kept)[1]["sid"] == claims["sid"]
        assert len(service.sessions(service.nodes[0])) == 1
        assert refresh(service, tokens["refresh_token"])["access_token"]
    finally:
        service.nodes[1].restart()


def test_policy_file_and_numbers_of_the_page_match_the_code(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(UPSTREAMS)
    assert PolicyFile(file, {}).load().upstreams["inhouse"] == ChallengeSettings(
        "inhouse", "http://127.0.0.1:8090/login"
    )
    assert (LOGIN_TTL, CODE_TTL) == (600, 60)
    assert "for ten minutes" in TEXT

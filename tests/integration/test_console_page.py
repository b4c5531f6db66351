"""docs/console.md with a real node: its client and its operators, and a login through the login service of docs/login.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.login_page import TEXT as LOGIN_TEXT, login_service
from tests.integration.oauth.node import OAuthNode
from tests.integration.tour import DOCS, section
from tests.support.deadline import eventually_sync
from tests.support.files import rewrite
from tests.support.ports import free_port

_TEXT = (DOCS / "console.md").read_text()
_START, _END = section(_TEXT, "console")
CLIENT, OPERATORS = re.findall(r"^```toml\n(.*?)^```$", _TEXT[_START:_END], re.MULTILINE | re.DOTALL)
(COMMAND,) = re.findall(r"^```sh\n(.*?)^```$", _TEXT[_START:_END], re.MULTILINE | re.DOTALL)
(UPSTREAMS,) = re.findall(r"^```toml\n(.*?)^```$", LOGIN_TEXT, re.MULTILINE | re.DOTALL)
ISSUER = "https://tokens.example.org"


class Console:
    """The node, its policy file, and a browser."""

    def __init__(self, node: OAuthNode, policies: Path) -> None:
        self.node, self.policies = node, policies
        self.http = httpx.Client(base_url=node.http_url, trust_env=False, timeout=60)

    def log_in(self, path: str = "/console") -> httpx.Response:
        """Open a page, log in as alice, and return the page at the end."""
        answer = self.http.get(path)
        for _ in range(20):
            if answer.status_code == 303:
                answer = self.http.get(answer.next_request.url if answer.next_request else "")
            elif 'name="login_challenge"' in answer.text:
                form = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', answer.text))
                answer = self.http.post(answer.url, data={**form, "user": "alice", "password": "wonderland"})
            elif (
                onward := re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.text)
            ) is not None:
                answer = self.http.get(onward.group(1))
            else:
                return answer
        raise AssertionError(answer.text)

    def post(self, path: str) -> httpx.Response:
        found = re.search(r'name="form_token" value="([^"]+)"', self.http.get("/console").text)
        assert found is not None
        return self.http.post(
            path, data={"form_token": found.group(1)}, headers={"Origin": self.node.http_url}
        )


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    login_port, policies = free_port(), tmp_path / "policy.toml"
    policies.write_text(UPSTREAMS.replace("127.0.0.1:8090", f"127.0.0.1:{login_port}") + OPERATORS)
    env = {
        "TOKEN_SERVICE_CONSOLE_CLIENT_ID": "console",
        "TOKEN_SERVICE_POLICY_FILE": str(policies),
        "TOKEN_SERVICE_METRICS_ADDRESS": "off",
    }
    with OAuthNode(env=env) as node, login_service(node.grpc_address, login_port):
        (tmp_path / "console.toml").write_text(CLIENT.replace(ISSUER, node.issuer))
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TOKEN_SERVICE_TARGET": node.grpc_address,
        }
        subprocess.run(
            ["/bin/bash", "-ec", COMMAND],
            cwd=tmp_path,
            env=environ,
            check=True,
            capture_output=True,
            timeout=60,
        )
        made = Console(node, policies)
        yield made
        made.http.close()


def test_operator_of_the_page_logs_in_and_out(console: Console) -> None:
    page = console.log_in("/console/subscribers")
    assert page.status_code == 200
    assert page.url.path == "/console/subscribers"
    assert "Connected validators" in page.text
    assert console.http.get("/console").status_code == 200
    assert "You are logged out" in console.post("/console/logout").text
    assert console.http.get("/console").status_code == 303


def test_charts_have_values_without_a_page_of_metrics(console: Console) -> None:
    console.log_in()

    def connected() -> list[float]:
        data = console.http.get("/console/overview/chart?name=validators").json()
        return [value for value in data["series"][0]["values"] if value is not None]

    eventually_sync(lambda: len(connected()) > 0)
    assert set(connected()) == {0.0}
    assert console.http.get("/metrics").status_code == 404


def test_operator_that_leaves_the_policy_file_is_refused(console: Console) -> None:
    console.log_in()
    rewrite(console.policies, console.policies.read_text().replace('"alice"', '"bob"'))
    eventually_sync(lambda: console.http.get("/console").status_code == 403)
    assert "no entry of [operators]" in console.http.get("/console").text
    eventually_sync(lambda: "operators.on-call changed" in console.node.log_text())
    denied = re.compile(r"permission\.denied .*actor=operator:alice actor_session_id=\S+")
    eventually_sync(lambda: denied.search(console.node.log_text()))

"""docs/frameworks.md: each program serves as the page says."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.tour import DOCS
from tests.support.deadline import eventually_sync
from tests.support.fake_token_service import FakeTokenService
from tests.support.ports import free_port, release_port

PAGE = (DOCS / "frameworks.md").read_text(encoding="utf-8")
PROGRAMS = dict(
    re.findall(r"^## (\w+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)


@contextmanager
def serving(name: str, service: FakeTokenService, directory: Path) -> Iterator[httpx.Client]:
    """Run a program of the page with the addresses of a token service under test."""
    port = free_port()
    program = PROGRAMS[name]
    replaced = {
        "http://127.0.0.1:8080": service.issuer,
        "127.0.0.1:50051": service.address,
        "8000": str(port),
    }
    for written, real in replaced.items():
        assert written in program
        program = program.replace(written, real)
    (directory / "shop.py").write_text(program)
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "shop.py"], cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:

            def is_up() -> bool:
                assert process.poll() is None, (directory / "log").read_text()
                try:
                    return client.get("/healthz").status_code == 200
                except httpx.TransportError:
                    return False

            eventually_sync(is_up)
            yield client
    finally:
        process.terminate()
        process.wait(30)
        release_port(port)


def test_every_framework_has_a_program() -> None:
    assert list(PROGRAMS) == ["FastAPI", "Starlette", "Flask", "Django"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_protects_its_routes(name: str, tmp_path: Path) -> None:
    with FakeTokenService() as service, serving(name, service, tmp_path) as client:

        def ask(method: str, path: str, **claims: Any) -> httpx.Response:
            token = service.mint.token(time.time(), sub="alice", **claims)
            return client.request(method, path, headers={"Authorization": f"Bearer {token}"})

        eventually_sync(lambda: ask("GET", "/orders", scope="orders:read").status_code != 503)
        listed = ask("GET", "/orders", scope="orders:read")
        assert (listed.status_code, listed.text.strip('"')) == (200, "orders of alice")
        assert 'scope="orders:read"' in ask("GET", "/orders", scope="x").headers["www-authenticate"]
        assert ask("POST", "/orders", scope="orders:read").status_code == 403
        assert client.get("/orders").status_code == 401
        assert 'realm="shop"' in client.get("/orders").headers["www-authenticate"]
        assert ask("GET", "/reports").status_code == 403
        assert ask("GET", "/reports", roles=["clerk"]).status_code == 200
        step_up = ask("POST", "/payments")
        assert step_up.status_code == 401
        assert 'acr_values="urn:mfa", max_age="300"' in step_up.headers["www-authenticate"]
        # Django asks for a CSRF token where its middleware is on, which the program does not use.
        strong = {"acr": "urn:mfa", "auth_time": int(time.time())}
        assert ask("POST", "/payments", auth_ctx=strong).status_code == 200
        if name == "FastAPI":
            created = ask("POST", "/orders", scope="orders:write", tenant="acme")
            assert created.json() == "order of alice at acme"
            assert ask("POST", "/orders", scope="orders:write").status_code == 403
            metadata = client.get("/.well-known/oauth-protected-resource").json()
            assert metadata["scopes_supported"] == ["orders:read", "orders:write"]
            document = client.get("/openapi.json").json()
            assert document["paths"]["/orders"]["get"]["security"] == [{"accessToken": ["orders:read"]}]
        else:
            assert ask("POST", "/orders", scope="orders:write").status_code == 200
        if name == "Starlette":
            preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
            assert client.options("/orders", headers=preflight).status_code == 200
            refused = client.get("/orders", headers={"Origin": "https://shop.example"})
            assert refused.status_code == 401
            assert "www-authenticate" in refused.headers["access-control-expose-headers"].lower()

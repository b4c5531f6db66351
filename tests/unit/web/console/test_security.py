"""What every response of the console carries, and what every request must prove."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from tests.unit.web.console.console_app import ORIGIN, ChosenOperator, ConsoleApp, no_history, url
from token_service.app.console import console_pages, make_console
from token_service.tokens import strict_json
from token_service.web.app import make_app
from token_service.web.console import static_files
from token_service.web.console.access import LoginNeededError, OpenAccess
from token_service.web.console.page import Page
from token_service.web.console.visit import Operator, Visit
from token_service.web.edge import HttpEdge
from token_service.web.probes import Probes

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SAME = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}


class Forgetful(ChosenOperator):
    """Identifies no request while `ended` is set."""

    ended = False

    async def identify(self, request: Request) -> Operator:
        if self.ended:
            raise LoginNeededError("The login was revoked.")
        return await super().identify(request)


class Scene:
    """A console with one page, whose form counts."""

    def __init__(self, node: Node[ManualClock]) -> None:
        self.done: list[str] = []
        self.access = Forgetful()
        page = Page(path="things", title="Things", show=self.show, actions={"do": self.do})
        edge = HttpEdge()
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(
                make_app(
                    lambda: strict_json.encode({"keys": []}),
                    Probes(readiness=dict, startup=dict, version={}),
                    edge=edge,
                    routes=make_console(node.core, self.access, [page]).routes(edge),
                )
            ),
            base_url=ORIGIN,
        )

    async def show(self, visit: Visit) -> Response:
        return visit.json({"token": visit.form_token})

    async def do(self, visit: Visit) -> Response:
        self.done.append(visit.form.get("what"))
        return visit.redirect("things", done=1)

    async def token(self) -> str:
        return str((await self.http.get("/console/things")).json()["token"])


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    node = await Node(ManualClock(), max_staleness=1e12).start()
    made = Scene(node)
    yield made
    await made.http.aclose()


@pytest.mark.parametrize("path", ["", "subscribers"])
async def test_pages_have_a_strict_policy_and_no_inline_code(console: ConsoleApp, path: str) -> None:
    answer = await console.get(path)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|<script(?! src=)", answer.text)
    assert '"allowEval":false' in answer.text
    assert '"selfRequestsOnly":true' in answer.text


def test_templates_have_no_inline_code() -> None:
    for path in (Path(static_files.__file__).parent / "templates").glob("*.html"):
        text = path.read_text()
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|<script(?! src=)|\|\s*safe", text
        ), path


async def test_errors_have_the_same_headers(console: ConsoleApp) -> None:
    console.become(())
    answer = await console.get()
    assert answer.status_code == 403
    assert answer.headers["content-security-policy"] == POLICY


async def test_form_of_the_console_is_done_and_leads_to_a_page(scene: Scene) -> None:
    answer = await scene.http.post(
        "/console/things/do", data={"form_token": await scene.token(), "what": "a"}, headers=SAME
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/things?done=1")
    # Browsers without fetch metadata send an origin, and some forms only fetch metadata.
    for headers in ({"Origin": ORIGIN}, {"Sec-Fetch-Site": "same-origin"}):
        await scene.http.post(
            "/console/things/do", data={"form_token": await scene.token(), "what": "b"}, headers=headers
        )
    assert scene.done == ["a", "b", "b"]


async def test_request_of_htmx_proves_itself_with_a_header(scene: Scene) -> None:
    headers = {**SAME, "HX-Request": "true", "X-Form-Token": await scene.token()}
    answer = await scene.http.post("/console/things/do", data={"what": "a"}, headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/console/things?done=1")
    assert scene.done == ["a"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "none"},
        {"Origin": f"{ORIGIN}.evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://console.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_form_of_another_origin_is_refused(scene: Scene, headers: dict[str, str]) -> None:
    answer = await scene.http.post(
        "/console/things/do", data={"form_token": await scene.token()}, headers=headers
    )
    assert answer.status_code == 403
    assert "nothing was changed" in answer.text
    assert not scene.done


async def test_form_without_a_token_of_the_same_login_is_refused(scene: Scene) -> None:
    own = await scene.token()
    scene.access.become((), "mallory")
    foreign = await scene.token()
    scene.access.become(())
    for token in ("", "x", foreign, own[:-2], own + "AA"):
        answer = await scene.http.post(
            "/console/things/do", data={"form_token": token, "a": "b"}, headers=SAME
        )
        assert answer.status_code == 403, token
    assert not scene.done


async def test_get_does_no_action(scene: Scene) -> None:
    assert (await scene.http.get("/console/things/do")).status_code == 405
    assert not scene.done


async def test_form_of_an_ended_login_says_that_nothing_was_done(scene: Scene) -> None:
    token = await scene.token()
    scene.access.ended = True
    answer = await scene.http.post("/console/things/do", data={"form_token": token}, headers=SAME)
    assert answer.status_code == 401
    assert "Nothing was changed" in answer.text
    assert "The login was revoked." in answer.text
    assert "/console/login?return_to=" in answer.text
    answer = await scene.http.post(
        "/console/things/do",
        data={},
        headers={**SAME, "HX-Request": "true", "HX-Current-URL": f"{ORIGIN}/console/things"},
    )
    assert answer.status_code == 401
    assert "hx-redirect" not in answer.headers
    assert "Nothing was changed" in answer.text
    assert "<html" not in answer.text
    assert not scene.done


async def test_too_large_form_is_refused(scene: Scene) -> None:
    token = await scene.token()
    answer = await scene.http.post(
        "/console/things/do", data={"form_token": token, "what": "x" * 70_000}, headers=SAME
    )
    assert answer.status_code == 400
    assert not scene.done


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("127.1.2.3", 200),
        ("[::1]:8080", 200),
        ("evil.example", 400),
        ("localhost.evil.example:8080", 400),
        ("127.0.0.1.evil.example", 400),
        ("192.0.2.1", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
async def test_open_console_answers_to_names_of_this_machine_only(host: str, status: int) -> None:
    node = await Node(ManualClock(), max_staleness=1e12).start()
    edge = HttpEdge()
    app = make_app(
        lambda: strict_json.encode({"keys": []}),
        Probes(readiness=dict, startup=dict, version={}),
        edge=edge,
        routes=make_console(node.core, OpenAccess(), console_pages(node.core, no_history(node))).routes(edge),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.get("/console", headers={"Host": host})
        assert answer.status_code == status
        assert ("Log out" in answer.text) is False
        evil = await http.post(
            "/console/logout", headers={"Host": "localhost:8080", "Origin": "http://localhost:9000"}
        )
        assert evil.status_code == 403


@pytest.mark.parametrize(
    ("address", "header", "status"),
    [
        ("127.0.0.1", "", 200),
        ("::1", "", 200),
        ("192.0.2.1", "", 403),
        ("127.0.0.1", "Forwarded", 403),
        ("127.0.0.1", "X-Forwarded-For", 403),
        ("127.0.0.1", "X-Forwarded-Host", 403),
        ("127.0.0.1", "X-Forwarded-Proto", 403),
        ("127.0.0.1", "X-Real-IP", 403),
        ("127.0.0.1", "Via", 403),
    ],
)
async def test_open_console_answers_to_this_machine_only(address: str, header: str, status: int) -> None:
    node = await Node(ManualClock(), max_staleness=1e12).start()
    edge = HttpEdge()
    app = make_app(
        lambda: strict_json.encode({"keys": []}),
        Probes(readiness=dict, startup=dict, version={}),
        edge=edge,
        routes=make_console(node.core, OpenAccess(), console_pages(node.core, no_history(node))).routes(edge),
    )
    transport = httpx.ASGITransport(app, client=(address, 4711))
    # A proxy with its default settings sends the name under which it knows the console.
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as http:
        answer = await http.get("/console", headers={header: "203.0.113.9"} if header else {})
        assert answer.status_code == status
        if status == 403:
            assert "TOKEN_SERVICE_CONSOLE_CLIENT_ID" in answer.text
            assert "Validators" not in answer.text


async def test_open_console_is_not_passed_on_by_a_proxy_that_adds_no_header() -> None:
    node = await Node(ManualClock(), max_staleness=1e12).start()
    edge = HttpEdge()
    app = make_app(
        lambda: strict_json.encode({"keys": []}),
        Probes(readiness=dict, startup=dict, version={}),
        edge=edge,
        routes=make_console(node.core, OpenAccess(), console_pages(node.core, no_history(node))).routes(edge),
    )

    async def as_nginx(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "http_version": "1.0"}, receive, send)

    for passed_on, status in ((app, 200), (as_nginx, 403)):
        transport = httpx.ASGITransport(passed_on)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as http:
            assert (await http.get("/console")).status_code == status


async def test_parameters_of_any_name_fail_no_page(console: ConsoleApp) -> None:
    names = ("path", "self", "visit", "changes", "caller", "_block_vars", "_loop_vars", "_Context__self")
    query = dict.fromkeys(names, '"><b>x')
    for page in console.pages:
        for path in (page.path, *(page.sub(name) for name in page.parts)):
            answer = await console.http.get(url(path), params=query)
            assert answer.status_code < 500, path
            assert "<b>x" not in answer.text, path


async def test_static_files_are_kept_by_browsers_at_a_url_of_their_content(console: ConsoleApp) -> None:
    page = (await console.get()).text
    paths = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page)
    assert {path.rsplit("/", 1)[1].partition("?")[0] for path in paths} == {
        "icon.svg",
        "uPlot.min.css",
        "console.css",
        "htmx.min.js",
        "uPlot.iife.min.js",
        "console.js",
    }
    for path in paths:
        answer = await console.http.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[
            path.partition("?")[0].rsplit(".", 1)[1]
        ]
        assert answer.headers["content-type"].startswith(kind)
        again = await console.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    # A node of another version, while nodes are replaced.
    other = await console.http.get("/console/static/console.css?v=0000000000000000")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
    for path in ("../console.py", "%2e%2e/console.py", "vendor/README.md", "console.py", ""):
        assert (await console.http.get(f"/console/static/{path}")).status_code == 404


async def test_path_with_a_slash_leads_to_the_console(console: ConsoleApp) -> None:
    answer = await console.http.get("/console/", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (308, "/console")


def test_vendored_files_are_those_of_the_table() -> None:
    directory = Path(static_files.__file__).parent / "static" / "vendor"
    rows = re.findall(
        r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", (directory / "README.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.iterdir()
        if path.suffix in {".js", ".css"}
    }
    assert {path.name for path in directory.glob("*.LICENSE")} == {"htmx.LICENSE", "uPlot.LICENSE"}

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator as valid

import pytest

from tests.support.http_askers import Judge, ask, wsgi
from tests.support.token_mint import Mint
from tests.unit.client._internal.test_request_path import BASES, ODD
from token_service.client.proof_rules import ProofRules
from token_service.client.wsgi import BearerAuthWsgiMiddleware, current_claims

MINT = Mint("ES256")


def bearer(**changes: Any) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {MINT.token(time.time(), **changes)}")]


def environ(**changes: Any) -> dict[str, Any]:
    """Return the environ of a request that is well-formed by PEP 3333."""
    found: dict[str, Any] = {
        "SCRIPT_NAME": "",
        "PATH_INFO": "/orders",
        "HTTP_AUTHORIZATION": bearer()[0][1],
        "QUERY_STRING": "",
        **changes,
    }
    setup_testing_defaults(found)
    return {name: value for name, value in found.items() if value is not ...}


def served(app: Any, **changes: Any) -> tuple[str, bytes]:
    """Serve a request as a strict server does."""
    started: list[str] = []
    middleware = BearerAuthWsgiMiddleware(app, Judge(MINT), public=["/healthz"])  # type: ignore[arg-type]

    def start_response(status: str, headers: Any, error: Any = None) -> Any:
        started.append(status)
        return lambda _: None

    chunks = valid(middleware)(environ(**changes), start_response)
    body = b"".join(chunks)
    chunks.close()  # type: ignore[attr-defined]
    return started[0], body


def no_claims() -> bool:
    try:
        current_claims()
    except LookupError:
        return True
    return False


def whole(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    assert environ["token_service.claims"] is current_claims()
    return [current_claims().subject.encode()]


def streamed(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(2):
        yield current_claims().subject.encode()


def test_the_interface_of_servers_is_kept() -> None:
    assert served(whole) == ("200 OK", b"user-1")
    assert served(streamed) == ("200 OK", b"user-1user-1")
    assert served(whole, HTTP_AUTHORIZATION=...) == ("401 Unauthorized", b"an access token is needed")
    assert served(whole, HTTP_AUTHORIZATION=..., REQUEST_METHOD="HEAD") == ("401 Unauthorized", b"")
    assert no_claims()


def test_claims_end_with_the_response() -> None:
    middleware = wsgi(MINT, app=streamed)
    chunks = middleware(environ(), lambda *_: None)
    assert list(chunks) == [b"user-1", b"user-1"]
    chunks.close()  # type: ignore[attr-defined]
    assert no_claims()


def test_claims_of_an_unclosed_response_do_not_reach_the_next_request() -> None:
    middleware = wsgi(MINT, app=streamed, public=["/healthz"])
    middleware(environ(), lambda *_: None)

    def public(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(no_claims()).encode()]

    assert served(public, PATH_INFO="/healthz") == ("200 OK", b"True")


def test_claims_end_with_an_error() -> None:
    def broken(environ: Any, start_response: Any) -> list[bytes]:
        raise RuntimeError(current_claims().subject)

    with pytest.raises(RuntimeError, match="user-1"):
        wsgi(MINT, app=broken)(environ(), lambda *_: None)
    assert no_claims()


def test_the_response_of_the_application_is_closed() -> None:
    closed: list[str] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            closed.append(current_claims().subject)
            raise OSError

    def app(environ: Any, start_response: Any) -> Any:
        return Chunks()

    chunks = wsgi(MINT, app=app)(environ(), lambda *_: None)
    assert list(chunks) == [b"x"]
    with pytest.raises(OSError):
        chunks.close()  # type: ignore[attr-defined]
    assert closed == ["user-1"]
    assert no_claims()


def test_files_stay_files_for_the_server(tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"content")
    wrapped = FileWrapper((tmp_path / "file").open("rb"))
    request = environ(**{"wsgi.file_wrapper": FileWrapper})
    assert wsgi(MINT, app=lambda *_: wrapped)(request, lambda *_: None) is wrapped
    wrapped.close()
    assert no_claims()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"PATH_INFO": "/static/x"}, 200),
        ({"PATH_INFO": "/admin"}, 403),
        ({"PATH_INFO": ""}, 200),
        ({"PATH_INFO": "", "SCRIPT_NAME": "/admin"}, 200),
        ({"PATH_INFO": "/admin", "SCRIPT_NAME": "/shop"}, 403),
        ({"PATH_INFO": "/admin", "SCRIPT_NAME": "/shop", "REQUEST_URI": "/shop/admin"}, 403),
        ({"PATH_INFO": "/admin", "SCRIPT_NAME": "/shop/"}, 400),
        ({"PATH_INFO": "/x", "RAW_URI": "/x?y=%2F"}, 200),
        ({"PATH_INFO": "/x", "REQUEST_URI": "/x"}, 200),
        ({"PATH_INFO": "/x", "RAW_URI": "http://shop.test/x"}, 200),
        ({"PATH_INFO": "/", "RAW_URI": "http://shop.test"}, 200),
        ({"PATH_INFO": "/x", "RAW_URI": "http://shop.test/admin"}, 400),
        ({"PATH_INFO": "/x", "RAW_URI": "/admin"}, 400),
        ({"PATH_INFO": "/a/b", "RAW_URI": "/a%2Fb"}, 400),
        ({"PATH_INFO": "/a/b", "REQUEST_URI": "/a%2fb"}, 400),
        ({"PATH_INFO": "/a\nb"}, 400),
        ({"PATH_INFO": "/caf\xc3\xa9", "RAW_URI": "/caf%C3%A9"}, 200),
        ({"PATH_INFO": "/caf\xe9"}, 400),
        ({"PATH_INFO": "/a//b"}, 400),
        ({"PATH_INFO": "/../admin"}, 400),
        ({"PATH_INFO": "/%61dmin"}, 400),
        ({"PATH_INFO": "*"}, 400),
        ({"REQUEST_METHOD": "get"}, 400),
    ],
)
def test_paths_have_one_reading(changes: Any, status: int) -> None:
    started: list[str] = []
    rules: Any = {"scopes": {"/admin": ["admin"], "/admin/*": ["admin"]}, "default_scopes": ["read"]}
    middleware = wsgi(MINT, **rules)
    chunks = middleware({**environ(), **changes}, lambda status, _: started.append(status))
    list(chunks)
    getattr(chunks, "close", list)()
    assert int(started[0][:3]) == status


async def test_no_spelling_evades_a_rule() -> None:
    rules: Any = {"scopes": {"/admin": ["admin"], "/admin/*": ["admin"]}, "default_scopes": ["read"]}

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].split("/")[1:2][0].encode("latin-1")]

    middleware = wsgi(MINT, app=app, **rules)
    headers = bearer()
    for base in BASES:
        for odd in ("", *ODD):
            answer = await ask("wsgi", MINT, base + odd, headers, middleware=middleware)
            assert (base + odd, answer.status == 200 and answer.body == "admin") == (base + odd, False)


def test_connection_without_an_address_is_no_unix_socket() -> None:
    der = b"certificate"
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    mint = Mint("ES256")
    app = wsgi(mint, proofs=ProofRules(trusted_proxies=["unix"], client_cert=True))
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/orders",
        "HTTP_AUTHORIZATION": f"Bearer {mint.token(time.time(), cnf={'x5t#S256': thumbprint})}",
        "HTTP_CLIENT_CERT": f":{base64.b64encode(der).decode()}:",
    }
    statuses: list[str] = []
    for more in ({"REMOTE_ADDR": ""}, {}):
        list(app({**environ, **more}, lambda status, _headers: statuses.append(status)))
    assert statuses == ["200 OK", "401 Unauthorized"]

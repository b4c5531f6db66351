"""The mutations of the HTTP fuzzer: one change to a request."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

from tests.faults.http_requests import FORM, UNREACHABLE, Request, Shapes, urlencoded

_SECRETS_OF_FORM = (
    "client_secret",
    "refresh_token",
    "token",
    "subject_token",
    "actor_token",
    "assertion",
    "client_assertion",
    "code",
    "access_token",
    "id_token_hint",
    "logout_token",
    "login_verifier",
    "device_code",
)
_NAMES = (
    *_SECRETS_OF_FORM, "grant_type", "client_id", "scope", "resource", "audience", "subject_token_type", "actor_token_type",
    "requested_token_type", "client_assertion_type", "token_type_hint", "device_id", "request_context", "request_details",
    "code_verifier", "redirect_uri", "post_logout_redirect_uri", "state", "nonce", "response_type", "response_mode", "prompt", "max_age",
    "user_code", "decision", "request", "request_uri", "username", "password", "__proto__", "a[b]",
)  # fmt: skip
_NAMED_IN_ERRORS = frozenset({"scope", "resource", "audience"})
_ODD = (
    "", " ", "\0", "\n", "\r\n", "%", "%zz", "%00", "é", "\U0001f511", "\u2028", "\x7f", "'", '"', "\\", "<script>", "{}", "[]", "null",
    "-1", "0", "1e309", "../..", "a" * 300, "a" * 5000, "a" * 70_000, " ".join("s" * 1000), "https://api.example#f", "urn:x", "http://[",
)  # fmt: skip


_ADDRESSES = (
    b"192.0.2.1, 127.200.0.1",
    b"10.0.0.1, x",
    b"",
    b",,,",
    b"[::1]:0",
    b"::ffff:1.2.3.4",
    b"fe80::1%eth0",
    b"1.2.3.4," * 40,
)


def mutated(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    """Return the request with one change."""
    if request.raw is not None:
        return request
    if request.form and chance.random() < 0.6:
        return chance.choice(_OF_FORM)(chance, request, shapes)
    if request.body and not request.form and chance.random() < 0.6:
        return chance.choice((_other_body, _broken_body))(chance, request, shapes)
    return chance.choice(_OF_REQUEST)(chance, request, shapes)


_Mutation = Callable[[random.Random, Request, Shapes], Request]


def _at(chance: random.Random, request: Request) -> int:
    return chance.randrange(len(request.form))


def _with(request: Request, index: int, *pairs: tuple[str, str]) -> Request:
    return replace(request, form=(*request.form[:index], *pairs, *request.form[index + 1 :]))


def _drop(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    return _with(request, _at(chance, request))


def _double(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    index = _at(chance, request)
    name, value = request.form[index]
    times = chance.choice((1, 1, 2, 100))
    return _with(request, index, (name, value), *[(name, chance.choice((value, "", "x")))] * times)


def _rename(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    index = _at(chance, request)
    name, value = request.form[index]
    # An error names the scope or the audience that it is about, so these must not be secrets.
    other = chance.choice([each for each in _NAMES if each not in _NAMED_IN_ERRORS])
    return _with(request, index, (chance.choice((name.upper(), f"{name}[]", f" {name}", other)), value))


def _add(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    name = chance.choice(_NAMES)
    value = shapes.secrets.invented(chance) if name in _SECRETS_OF_FORM else chance.choice(_ODD)
    return replace(request, form=(*request.form, (name, value)))


def _odd_value(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    index = _at(chance, request)
    name, value = request.form[index]
    at = chance.randrange(len(value) + 1)
    odd = chance.choice(_ODD)
    return _with(
        request, index, (name, chance.choice((odd, value[:at] + odd + value[at:], value[:at], value * 2)))
    )


def _other_token(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    """Replace a token or a secret by another kind of token, an invented secret or a hostile token."""
    indexes = [index for index, (name, _) in enumerate(request.form) if name in _SECRETS_OF_FORM]
    if not indexes:
        return _add(chance, request, shapes)
    index = chance.choice(indexes)
    name, value = request.form[index]
    flipped = chance.randrange(len(value) + 1)
    other = chance.choice(
        (
            lambda: shapes.token(chance),
            lambda: shapes.secrets.invented(chance),
            lambda: chance.choice(shapes.hostile),
            lambda: f"{value[:flipped]}A{value[flipped + 1 :]}",
            lambda: ".".join(reversed(value.split("."))),
            lambda: f"{'A' * 2000}.{'A' * 2000}.",
        )
    )
    return _with(request, index, (name, other()))


def _described_client(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    """Name a client that describes itself at an address that the node must not connect to."""
    form = tuple(pair for pair in request.form if pair[0] not in {"client_id", "client_secret"})
    return replace(request, form=(*form, ("client_id", f"{UNREACHABLE}/{chance.randrange(1000)}")))


def _many(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    count = chance.choice((40, 63, 64, 65, 1000))
    return replace(request, form=(*request.form, *((f"p{number}", "v") for number in range(count))))


def _broken_form(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    body = urlencoded(request.form)
    at = chance.randrange(len(body) + 1)
    odd = chance.choice(
        (
            b"%",
            b"%f",
            b"%ff",
            b"%zz",
            b"\xff",
            b"\0",
            b"&",
            b"&&",
            b"=",
            b";",
            b"+",
            b"%00",
            b"%ed%a0%80",
            b"\r\n",
        )
    )
    return replace(request, body=body[:at] + odd + body[at:])


def _other_body(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    odd: tuple[bytes, ...] = (
        b"", b"{}", json.dumps(dict(request.form)).encode(), b"[" * 60_000, chance.randbytes(300), b"a=" + b"b" * 65_534, b"a" * 65_537,
        b"&" * 65_000, b"%41" * 20_000, b'{"a":' * 5000, b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b"null", b"1e999",
    )  # fmt: skip
    return replace(request, body=chance.choice(odd))


def _broken_body(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    assert request.body
    at = chance.randrange(len(request.body))
    odd = chance.choice(
        (b"", b'"', b"{", b"[", b"\0", b"\xff", b"\\ud800", b",", b"1e999", b"\xef\xbb\xbf", b"\\u0000")
    )
    return replace(request, body=request.body[:at] + odd + request.body[at + chance.randrange(2) :])


_OF_FORM: tuple[_Mutation, ...] = (
    _drop, _double, _rename, _add, _odd_value, _odd_value, _other_token, _other_token, _other_token, _described_client,
    _many, _broken_form, _other_body,
)  # fmt: skip


def _method(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    return replace(
        request,
        method=chance.choice(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "POST", "FOO")),
    )


def _target(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    path = request.path
    secret = shapes.secrets.invented(chance)
    odd = (
        f"{path}/", f"/{path}", path.upper(), f"{path}?", f"{path}?access_token={secret}", f"{path}?{'a=b&' * 500}", f"{path}%00",
        path.replace("/", "%2f"), f"/.{path}", f"/x/..{path}", f"{path};a", f"{path}#x", f"{path}/{'a' * 8000}", "*", "/", "//",
        f"http://attacker.example{path}", f"{path}?%ff%fe", f"{path}%ff", f"{path}?client_secret={secret}", "/authorize", "/userinfo",
    )  # fmt: skip
    return replace(request, target=chance.choice(odd).encode())


def _header(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    secret = shapes.secrets.invented(chance).encode()
    token = shapes.token(chance).encode()
    basic = b64encode(b"secret:" + secret)
    odd: tuple[tuple[bytes, bytes], ...] = (
        (b"Authorization", b"Basic " + basic), (b"Authorization", b"basic " + basic), (b"Authorization", b"Basic !!!" + secret),
        (b"Authorization", b"Basic " + b64encode(b"\xff\xfe:" + secret)), (b"Authorization", b"Basic " + b64encode(b"%zz%:" + secret)),
        (b"Authorization", b"Basic " + b64encode(b"nocolon")), (b"Authorization", b"Basic"), (b"Authorization", b""),
        (b"Authorization", b"Bearer " + token), (b"Authorization", b"Bearer " + secret), (b"Authorization", b"DPoP " + token),
        (b"Authorization", b"Bearer " + chance.choice(shapes.hostile).encode("utf-8", "replace")[:12_000].replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")),
        (b"Authorization", b"Basic " + b64encode(b"a" * 5000 + b":" + secret)), (b"Content-Type", b"application/json"),
        (b"Content-Type", b"multipart/form-data; boundary=x"), (b"Content-Type", b""), (b"Content-Type", FORM + b"; charset=utf-16"),
        (b"Content-Encoding", b"gzip"), (b"Accept", b"text/html"), (b"Accept-Encoding", b"gzip, br"), (b"Origin", b"https://app.example"),
        (b"Origin", b"https://attacker.example"), (b"Origin", b"null"), (b"Origin", b"x" * 3000), (b"Host", b"attacker.example"), (b"Host", b""),
        *((b"X-Forwarded-For", value) for value in _ADDRESSES), (b"X-Forwarded-Proto", chance.choice((b"https", b"http, x", b""))),
        (b"Forwarded", b'for="[2001:db8::1]:7";proto=https, for="\\"'), (b"Client-Cert", chance.choice((b":AAAA:", b":" + b"A" * 9000 + b":", b""))),
        (b"Client-Cert-Chain", b":AAAA:, :AAAA:"), (b"X-Forwarded-Client-Cert", b"Hash=x"), (b"DPoP", token), (b"Cookie", b"a=" + secret),
        (b"User-Agent", b"\x80\xff\x01 agent forged=line"), (b"User-Agent", b"u" * 9000), (b"If-None-Match", b"*"), (b"Range", b"bytes=0-5"),
        (b"Expect", b"100-continue"), (b"X-" + b"x" * 4000, b"y" * 4000), (b"Upgrade", b"h2c"), (b"Upgrade", b"websocket"),
    )  # fmt: skip
    name, value = chance.choice(odd)
    is_second = name != b"Host" and chance.random() < 0.3  # with two hosts, a request is no HTTP
    kept = request.headers
    if not is_second:
        kept = tuple(pair for pair in kept if pair[0].lower() != name.lower())
    return replace(request, headers=(*kept, (name, value)))


def _chunks(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    return replace(request, chunked=True)


def _broken_bytes(chance: random.Random, request: Request, shapes: Shapes) -> Request:
    """Break the request as HTTP."""
    data = bytearray(request.encode())
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(data))
        kind = chance.randrange(5)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at:at] = chance.choice(
                (
                    b"\r\n",
                    b"\n",
                    b"\0",
                    b"\r\n\r\n",
                    b"Content-Length: 5\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b" ",
                    b":",
                )
            )
        elif kind == 2:
            del data[at : at + chance.randrange(1, 40)]
        elif kind == 3:
            data += b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        else:
            data = data[: at + 1]
        if not data:
            break
    return replace(request, raw=bytes(data))


_OF_REQUEST: tuple[_Mutation, ...] = (_method, _target, _header, _header, _header, _chunks, _broken_bytes)

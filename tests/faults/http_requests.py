"""The requests of the HTTP fuzzer: valid ones of every endpoint and grant."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, quote_plus, unquote, urlsplit

import httpx

from tests.integration.calls import ACCESS, ID, REFRESH, SESSION, TIMEOUT, Api
from tests.integration.oauth.identity_provider import ISSUER as IDP, IdentityProvider
from tests.integration.oauth.node import (
    API,
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
    OAuthNode,
    Registered,
    http_client,
    register,
)
from tests.support.hostile_tokens import VECTORS, token_of
from tests.support.token_mint import Mint
from token_service.v1 import (
    authorization_service_pb2,
    authorization_service_pb2_grpc,
    client_service_pb2,
    personal_access_token_service_pb2 as personal_pb,
    personal_access_token_service_pb2_grpc as personal_grpc,
)

FORM = b"application/x-www-form-urlencoded"
UNREACHABLE = "https://localhost"
"""Where a node may look for client metadata documents by its settings, but no request leads to a private address."""
REDIRECT_URI = "https://app.example/cb"
POST_LOGOUT_URI = "https://app.example/bye"
UPSTREAM_URL = "https://login.example/in"
REDIRECTS = (REDIRECT_URI, POST_LOGOUT_URI, UPSTREAM_URL)
"""Where browsers may be sent: the registered URIs of the clients, and the login service."""
POLICY = f"""
[upstreams.inhouse]
kind = "challenge"
url = "{UPSTREAM_URL}"
"""
"""The login service of a node."""
BROWSER_PATHS = frozenset(
    {"/authorize", "/callback/inhouse", "/end_session", "/end_session/return", "/device"}
)
"""The endpoints that browsers come to. Their errors are pages."""
_OAUTH_PATHS = frozenset(
    {
        "/token", "/introspect", "/revoke", "/global-token-revocation", "/par", "/device_authorization", "/userinfo",
        "/backchannel-logout/inhouse",
    }
)  # fmt: skip
_SECRET = "fuzzsecret"
"""The beginning of every invented secret."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request before it is encoded. `form` is the body unless there is a `body`."""

    method: str
    path: str
    form: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    target: bytes | None = None
    """The requested target, if it is not the path."""
    in_query: bool = False
    """Whether the form is in the URL."""
    chunked: bool = False
    raw: bytes | None = None
    """The bytes of a request that may be broken, in place of everything else."""

    @property
    def whole(self) -> bool:
        """Whether the request is well-formed HTTP, which must be answered."""
        return self.raw is None

    @property
    def known_path(self) -> str | None:
        """The path of the endpoint; None if another one is requested."""
        return self.path if self.target is None and self.raw is None else None

    @property
    def is_oauth(self) -> bool:
        """Whether errors of the endpoint have the shape of RFC 6749."""
        return self.path in _OAUTH_PATHS

    @property
    def requested_path(self) -> str:
        """The path in the bytes of the request, which may be broken; empty: it has none."""
        parts = self.encode().lstrip(b"\r\n").split(b" ", 2)
        target = parts[1].decode("latin-1") if len(parts) > 1 else ""
        if target.startswith("http://"):
            target = f"/{target.removeprefix('http://').partition('/')[2]}"
        return unquote(target.partition("?")[0].partition("#")[0])

    def encode(self) -> bytes:
        """Return the bytes to send."""
        if self.raw is not None:
            return self.raw
        headers = list(self.headers)
        names = {name.lower() for name, _ in headers}
        if b"host" not in names:
            headers.append((b"Host", b"127.0.0.1"))
        target = self.target or self.path.encode()
        form = urlencoded(self.form)
        if self.in_query:
            target, form = (self.target or target + b"?" + form), b""
        body = self.body if self.body is not None else form
        if b"content-type" not in names and self.form and not self.in_query:
            headers.append((b"Content-Type", FORM))
        if self.chunked:
            headers.append((b"Transfer-Encoding", b"chunked"))
            half = len(body) // 2
            body = (
                b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
                + b"0\r\n\r\n"
            )
        elif body or self.method == "POST":
            headers.append((b"Content-Length", b"%d" % len(body)))
        headers.append((b"Connection", b"close"))
        head = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (
            self.method.encode(),
            target,
            head,
            body,
        )


def urlencoded(form: Sequence[tuple[str, str]]) -> bytes:
    """Return the body of a form."""
    pairs = (
        f"{quote_plus(name, errors='surrogatepass')}={quote_plus(value, errors='surrogatepass')}"
        for name, value in form
    )
    return "&".join(pairs).encode()


class Secrets:
    """The secrets that requests carry: real ones, and invented ones."""

    def __init__(self) -> None:
        self._known: list[str] = []

    def add(self, secret: str) -> str:
        """Remember a real secret."""
        self._known.append(secret)
        return secret

    @staticmethod
    def invented(chance: random.Random) -> str:
        """Return a value that is used as a secret and accepted nowhere."""
        return f"{_SECRET}{chance.randbytes(8).hex()}"

    def in_(self, request: Request) -> list[str]:
        """Return what an answer to a request must not contain."""
        data = request.encode().decode("latin-1")
        found = set(re.findall(rf"{_SECRET}[0-9a-f]{{16}}", data))
        found |= {secret[-40:] for secret in self._known if secret[-40:] in data}
        return sorted(found)

    @property
    def pattern(self) -> re.Pattern[bytes]:
        """Matches every secret, except the short beginnings of random ones."""
        known = (re.escape(secret[-40:]) for secret in self._known)
        return re.compile("|".join((f"{_SECRET}[0-9a-f]", *known)).encode())


class Shapes:
    """Valid requests of every endpoint and grant."""

    def __init__(self, issuer: str, secrets: Secrets, provider: IdentityProvider) -> None:
        self.secrets = secrets
        self._provider = provider
        self._issuer = issuer
        self._clients: dict[str, Registered] = {}
        self._tokens: dict[str, list[str]] = {}
        self._callbacks: list[Request] = []
        self._device_codes: list[dict[str, str]] = []
        self._device_page: Request
        self.hostile = [token_of(vector, Mint()) for vector in VECTORS]

    @classmethod
    async def of(cls, node: OAuthNode, provider: IdentityProvider) -> Shapes:
        """Register the clients at a node, and issue the tokens."""
        shapes = cls(node.issuer, Secrets(), provider)
        async with Api(node.grpc_address) as api:
            await shapes._prepare(api)
            async with http_client(node) as http:
                await shapes._add_logins(api, http)
                await shapes._add_devices(http)
        return shapes

    async def _prepare(self, api: Api) -> None:
        for client_id, method in (
            ("secret", "client_secret_basic"),
            ("signed", "private_key_jwt"),
            ("page", "none"),
        ):
            grant_types = [REFRESH_TOKEN, AUTHORIZATION_CODE, JWT_BEARER, DEVICE_CODE]
            grant_types += [] if method == "none" else [CLIENT_CREDENTIALS, TOKEN_EXCHANGE]
            client = await register(
                api,
                client_id,
                method,
                allowed_origins=["https://app.example"],
                grant_types=grant_types,
                redirect_uris=[REDIRECT_URI],
                post_logout_redirect_uris=[POST_LOGOUT_URI],
                first_party=True,
                scopes=["openid", "read", "write"],
                audiences=[API, self._issuer],
                rights=[] if method == "none" else _RIGHTS,
            )
            self._clients[client_id] = client
            if client.secret:
                self.secrets.add(client.secret)
        for number in range(40):
            issued = await api.issue(
                f"user-{number}", client_id="page", audience=[API], token_types=[ACCESS, REFRESH, ID, SESSION]
            )
            for kind in ("access", "refresh", "id", "session"):
                token = self.secrets.add(getattr(issued, f"{kind}_token"))
                self._tokens.setdefault(kind, []).append(token)

        for number in range(10):  # without a session, which a mutated request could end
            lasting = await api.issue(
                f"lasting-{number}", client_id="page", audience=[API], token_types=[ACCESS]
            )
            self._tokens.setdefault("lasting", []).append(self.secrets.add(lasting.access_token))
        for client_id in ("secret", "signed"):
            for kind, audience in (("machine", API), ("own", self._issuer)):
                issued = await api.issue(
                    client_id, client_id=client_id, audience=[audience], token_types=[ACCESS]
                )
                self._tokens.setdefault(kind, []).append(self.secrets.add(issued.access_token))
        for number in range(10):
            informed = await api.issue(
                f"informed-{number}",
                client_id="page",
                audience=[API],
                scopes=["openid"],
                token_types=[ACCESS, ID, SESSION],
            )
            for kind, name in (("informed", "access"), ("hint", "id")):
                token = self.secrets.add(getattr(informed, f"{name}_token"))
                self._tokens.setdefault(kind, []).append(token)
        await self._add_codes(api)
        await self._add_personal_tokens(api)

    async def _add_logins(self, api: Api, http: httpx.AsyncClient) -> None:
        """Go through logins until the login service sends the browsers back."""
        stub: Any = authorization_service_pb2_grpc.AuthorizationServiceStub(api.channel)
        for number in range(20):
            mode = "form_post" if number % 2 else "query"
            asked = {"client_id": "page", "state": f"state-{number}", "response_mode": mode, **_AUTHORIZATION}
            sent = await http.get("/authorize", params=asked)
            assert sent.headers["location"].startswith(UPSTREAM_URL), sent.headers
            (challenge,) = parse_qs(urlsplit(sent.headers["location"]).query)["login_challenge"]
            accept = authorization_service_pb2.AcceptLoginRequestRequest(
                login_challenge=challenge, subject=f"user-{number}"
            )
            accepted = await stub.AcceptLoginRequest(accept, timeout=TIMEOUT)
            query = parse_qs(urlsplit(accepted.redirect_to).query)
            form = tuple((name, value) for name, (value,) in query.items())
            self.secrets.add(dict(form)["login_verifier"])
            cookie = sent.headers["set-cookie"].partition(";")[0]
            self.secrets.add(cookie)
            headers = _encoded({"Cookie": cookie})
            self._callbacks.append(Request("GET", "/callback/inhouse", form, headers, in_query=True))

    async def _add_devices(self, http: httpx.AsyncClient) -> None:
        """Begin with devices, and open the page for their users."""
        for _ in range(20):
            answer = await http.post("/device_authorization", data={"client_id": "page", "resource": API})
            device = answer.raise_for_status().json()
            self.secrets.add(device["device_code"])
            self._device_codes.append(device)
        page = (await http.get("/device")).raise_for_status()
        ticket = re.search(r'name="ticket" value="([^"]*)"', page.text)
        assert ticket is not None, page.text
        headers = _encoded({"Cookie": page.headers["set-cookie"].partition(";")[0]})
        self._device_page = Request("POST", "/device", (("ticket", ticket[1]),), headers)

    async def _add_personal_tokens(self, api: Api) -> None:
        stub: Any = personal_grpc.PersonalAccessTokenServiceStub(api.channel)
        request = personal_pb.CreatePersonalAccessTokenRequest(
            subject="script", client_id="page", name="fuzz", audience=[API], scopes=["read"]
        )
        request.ttl.FromSeconds(3600)
        made = await stub.CreatePersonalAccessToken(request, timeout=TIMEOUT)
        self._tokens["personal"] = [self.secrets.add(made.token)]

    async def _add_codes(self, api: Api) -> None:
        stub: Any = authorization_service_pb2_grpc.AuthorizationServiceStub(api.channel)
        for number in range(_CODES):
            grant = authorization_service_pb2.CreateAuthorizationGrantRequest(
                subject=f"user-{number}",
                client_id="page",
                redirect_uri=REDIRECT_URI,
                scopes=["read"],
                audience=[API],
                code_challenge=_CHALLENGE,
            )
            made = await stub.CreateAuthorizationGrant(grant, timeout=TIMEOUT)
            self._tokens.setdefault("code", []).append(self.secrets.add(made.code))

    def token(self, chance: random.Random, *kinds: str) -> str:
        """Return a good token of one of the kinds, or of any kind."""
        return chance.choice(self._tokens[chance.choice(kinds or tuple(self._tokens))])

    def any(self, chance: random.Random) -> Request:
        """Return a valid request of any endpoint."""
        return chance.choice(_SHAPES)(self, chance)

    def grant_types(self) -> set[str]:
        """Return the grant types of all shapes."""
        chance = random.Random(1)
        forms = [dict(shape(self, chance).form) for shape in _SHAPES]
        return {form["grant_type"] for form in forms if "grant_type" in form}

    def honest(self) -> list[Request]:
        """Return one request of each endpoint and grant that must succeed at any time."""
        chance = random.Random(1)
        return [shape(self, chance) for shape in _ALWAYS_GOOD]

    def proven(self, chance: random.Random, request: Request, client_id: str = "") -> Request:
        """Add the proof of a client."""
        client = self._clients[client_id or chance.choice(tuple(self._clients))]
        if client.key is not None:
            return replace(request, form=(*request.form, *client.assertion(self._issuer).items()))
        if client.secret and chance.random() < 0.5:
            return replace(request, headers=(*request.headers, *_encoded(client.basic)))
        return replace(request, form=(*request.form, *client.post.items()))

    # The shapes.

    def client_credentials(self, chance: random.Random) -> Request:
        form = (("grant_type", CLIENT_CREDENTIALS), ("scope", "read"), ("resource", API))
        return self.proven(chance, Request("POST", "/token", form), chance.choice(("secret", "signed")))

    def refresh(self, chance: random.Random) -> Request:
        form = (("grant_type", REFRESH_TOKEN), ("refresh_token", self.token(chance, "refresh")))
        return self.proven(chance, Request("POST", "/token", form), "page")

    def code(self, chance: random.Random) -> Request:
        form = (
            ("grant_type", AUTHORIZATION_CODE),
            ("code", self.token(chance, "code")),
            ("code_verifier", _VERIFIER),
            ("redirect_uri", REDIRECT_URI),
        )
        return self.proven(chance, Request("POST", "/token", form), "page")

    def exchange(self, chance: random.Random) -> Request:
        form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", self.token(chance, "access", "lasting", "machine")),
            ("subject_token_type", f"{_TOKEN_TYPE}access_token"),
            ("scope", "read"),
        ]
        if chance.random() < 0.3:
            form += [
                ("actor_token", self.token(chance, "machine")),
                ("actor_token_type", f"{_TOKEN_TYPE}access_token"),
            ]
        if chance.random() < 0.2:
            form[1:3] = [
                ("subject_token", self.token(chance, "personal")),
                ("subject_token_type", "urn:token-service:token-type:personal_access_token"),
            ]
        if chance.random() < 0.4:
            details = chance.choice(
                ('{"order": 7}', "{}", "[]", "{", '{"a":' * 40 + "1" + "}" * 40, '{"a":1,"a":2}', "null")
            )
            form += [
                ("requested_token_type", f"{_TOKEN_TYPE}txn_token"),
                ("audience", _TRUST_DOMAIN),
                ("request_details", details),
            ]
        else:
            form.append(("resource", chance.choice((API, _OTHER_API))))
        return self.proven(
            chance, Request("POST", "/token", tuple(form)), chance.choice(("secret", "signed"))
        )

    def introspection(self, chance: random.Random) -> Request:
        request = Request("POST", "/introspect", (("token", self.token(chance)),))
        if chance.random() < 0.2:
            bearer = f"Bearer {self.token(chance, 'own')}"
            return replace(request, headers=_encoded({"Authorization": bearer}))
        return self.proven(chance, request, chance.choice(("secret", "signed")))

    def question(self, chance: random.Random) -> Request:
        """Ask about a token that does not exist. Mutated requests may have revoked every other one."""
        return self.proven(chance, Request("POST", "/introspect", (("token", "unknown"),)), "secret")

    def revocation(self, chance: random.Random) -> Request:
        # The codes and the tokens of machines stay: their requests must succeed to the end.
        token = self.token(chance, "access", "refresh", "id", "session")
        if chance.random() < 0.9:
            token = f"{token[:-3]}AAA"
        return self.proven(chance, Request("POST", "/revoke", (("token", token),)))

    def assertion(self, chance: random.Random) -> Request:
        form = (
            ("grant_type", JWT_BEARER),
            ("assertion", self._provider.id_token()),
            ("scope", "read"),
            ("resource", API),
        )
        return self.proven(chance, Request("POST", "/token", form))

    def global_revocation(self, chance: random.Random) -> Request:
        subject: dict[str, Any] = {"format": "iss_sub", "iss": IDP, "sub": f"user-{chance.randrange(10)}"}
        if chance.random() < 0.6:
            odd: tuple[Any, ...] = ("", None, 7, [], {}, "x" * 9000, "\0", "\ud800", "https://other.example")
            subject[chance.choice(("format", "iss", "sub", "other"))] = chance.choice(odd)
        path = "/global-token-revocation"
        signed = self._provider.sign({"aud": f"{self._issuer}{path}"}, "global-token-revocation+jwt")
        bearer = chance.choice((signed, signed, self.token(chance, "access"), self._provider.id_token()))
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        return Request("POST", path, headers=_encoded(headers), body=json.dumps({"sub_id": subject}).encode())

    def authorize(self, chance: random.Random) -> Request:
        parameters = {"client_id": "page", "state": self.secrets.invented(chance), **_AUTHORIZATION}
        for name, values in _OPTIONS_OF_AUTHORIZATION.items():
            if chance.random() < 0.1:
                parameters[name] = chance.choice(values)
        if chance.random() < 0.1:
            parameters["id_token_hint"] = self.token(chance, "id", "hint")
        form = tuple(parameters.items())
        if chance.random() < 0.5:
            return Request("POST", "/authorize", form)
        return Request("GET", "/authorize", form, in_query=True)

    def callback(self, chance: random.Random) -> Request:
        return chance.choice(self._callbacks)

    def push(self, chance: random.Random) -> Request:
        form = (("state", self.secrets.invented(chance)), *_AUTHORIZATION.items())
        return self.proven(chance, Request("POST", "/par", form))

    def device_authorization(self, chance: random.Random) -> Request:
        form = (("scope", "openid read"), ("resource", API))
        return self.proven(chance, Request("POST", "/device_authorization", form))

    def device_code(self, chance: random.Random) -> Request:
        device = chance.choice(self._device_codes)
        form = (("grant_type", DEVICE_CODE), ("device_code", device["device_code"]))
        return self.proven(chance, Request("POST", "/token", form), "page")

    def device(self, chance: random.Random) -> Request:
        code = ("user_code", chance.choice(self._device_codes)["user_code"])
        if chance.random() < 0.4:
            return Request("GET", "/device", (code,), in_query=True)
        pair = chance.choice((code, code, ("decision", "approve"), ("decision", "deny")))
        return replace(self._device_page, form=(*self._device_page.form, pair))

    def userinfo(self, chance: random.Random) -> Request:
        token = self.token(chance, "informed", "informed", "lasting", "machine")
        if chance.random() < 0.3:
            return Request("POST", "/userinfo", (("access_token", token),))
        headers = _encoded({"Authorization": f"Bearer {token}"})
        return Request(chance.choice(("GET", "POST")), "/userinfo", headers=headers)

    def end_session(self, chance: random.Random) -> Request:
        form = [("id_token_hint", self.token(chance, "id"))]
        if chance.random() < 0.7:
            form += [("post_logout_redirect_uri", POST_LOGOUT_URI), ("state", self.secrets.invented(chance))]
        if chance.random() < 0.5:
            return Request("POST", "/end_session", tuple(form))
        return Request("GET", "/end_session", tuple(form), in_query=True)

    def logout_return(self, chance: random.Random) -> Request:
        form = (("state", chance.choice((self.secrets.invented(chance), self.token(chance)))),)
        return Request("GET", "/end_session/return", form, in_query=True)

    def upstream_logout(self, chance: random.Random) -> Request:
        token = chance.choice((self._provider.id_token(), self.token(chance), chance.choice(self.hostile)))
        return Request("POST", "/backchannel-logout/inhouse", (("logout_token", token),))

    def document(self, chance: random.Random) -> Request:
        return Request("GET", chance.choice(_DOCUMENTS))

    def preflight(self, chance: random.Random) -> Request:
        headers = {
            "Origin": chance.choice(("https://app.example", "https://attacker.example", "null")),
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        return Request("OPTIONS", "/token", headers=_encoded(headers))


AUTHORIZATION_CODE = "authorization_code"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
_OTHER_API = "https://other.example"
_TRUST_DOMAIN = "shop.example"
_RIGHTS = (
    client_service_pb2.Right(permission="validate"),
    client_service_pb2.Right(
        permission="exchange", clients=["page"], audiences=[API, _OTHER_API, _TRUST_DOMAIN]
    ),
)
_CODES = 60
_VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
_AUTHORIZATION = {
    "response_type": "code",
    "redirect_uri": REDIRECT_URI,
    "scope": "openid read",
    "resource": API,
    "code_challenge": _CHALLENGE,
    "code_challenge_method": "S256",
}
_OPTIONS_OF_AUTHORIZATION = {
    "response_mode": ("query", "form_post", "fragment"),
    "response_type": ("token", "code id_token", ""),
    "prompt": ("none", "login", "consent", "none login"),
    "max_age": ("0", "60", "-1", "9" * 30),
    "nonce": ("n", "n" * 5000),
    "login_hint": ("alice", "\0", "h" * 3000),
    "upstream": ("inhouse", "other"),
    "redirect_uri": (
        "https://attacker.example/cb",
        f"{REDIRECT_URI}/",
        f"{REDIRECT_URI}.attacker.example",
        "javascript:1",
    ),
    "request_uri": ("urn:ietf:params:oauth:request_uri:x", "https://attacker.example/r"),
}
_DOCUMENTS = (
    "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/.well-known/jwks.json",
    "/healthz", "/readyz",
)  # fmt: skip
Shape = Callable[[Shapes, random.Random], Request]
_SHAPES: tuple[Shape, ...] = (
    Shapes.client_credentials, Shapes.refresh, Shapes.code, Shapes.exchange, Shapes.exchange, Shapes.assertion,
    Shapes.introspection, Shapes.introspection, Shapes.revocation, Shapes.global_revocation, Shapes.document, Shapes.preflight,
    Shapes.authorize, Shapes.authorize, Shapes.callback, Shapes.push, Shapes.device_authorization, Shapes.device_code, Shapes.device,
    Shapes.userinfo, Shapes.end_session, Shapes.logout_return, Shapes.upstream_logout,
)  # fmt: skip
_ALWAYS_GOOD: tuple[Shape, ...] = (Shapes.client_credentials, Shapes.question, Shapes.document)


def _encoded(headers: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in headers.items())

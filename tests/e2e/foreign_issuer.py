"""oidc-provider as an issuer that a node trusts."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from tests.support import node as nodejs
from tests.support.certificates import Authority
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port

CALLBACK = "https://app.example/cb"
SECRET = "secret-of-the-relying-party"  # see issuer.mjs


class ForeignIssuer:
    """The provider's process. `audience` is the client id of its only relying party.

    `ca_file` has the authority of its certificate.
    """

    def __init__(self, audience: str) -> None:
        self.audience = audience
        self.metadata: dict[str, Any] = {}
        """Further metadata of the relying party. Set before the start."""
        self._port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="token-service-issuer-"))
        self._process: ManagedProcess | None = None
        authority = Authority()
        server = authority.server()
        self.ca_file = self._write("ca.pem", authority.certificate)
        self._key = self._write("key.pem", server.key)
        self._certificate = self._write("certificate.pem", server.certificate)
        self._tls = ssl.create_default_context(cafile=str(self.ca_file))
        self._http = self._client()

    @property
    def issuer(self) -> str:
        """`iss` of its tokens."""
        return f"https://localhost:{self._port}"

    def __enter__(self) -> Self:
        self._process = nodejs.start(
            "issuer.mjs",
            str(self._port),
            self.audience,
            str(self._key),
            str(self._certificate),
            json.dumps(self.metadata),
            log=self._directory / "log",
        )
        try:
            eventually_sync(self._answers)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process and delete its files."""
        self._http.close()
        if self._process is not None:
            self._process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)
        release_port(self._port)

    def login(self, user: str) -> str:
        """Log a user in with the authorization code flow, and return the ID token."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        with self._client() as browser:
            answer = browser.get(
                "/auth",
                params={
                    "client_id": self.audience,
                    "response_type": "code",
                    "scope": "openid profile",
                    "redirect_uri": CALLBACK,
                    "code_challenge": challenge.decode(),
                    "code_challenge_method": "S256",
                    "nonce": secrets.token_urlsafe(8),
                },
            )
            location = self.interact(browser, answer, user)
            assert location.startswith(f"{CALLBACK}?code="), location
            answer = browser.post(
                "/token",
                auth=(self.audience, SECRET),
                data={
                    "grant_type": "authorization_code",
                    "code": parse_qs(urlsplit(location).query)["code"][0],
                    "redirect_uri": CALLBACK,
                    "code_verifier": verifier,
                },
            )
        return answer.json()["id_token"]

    def interact(self, browser: httpx.Client, answer: httpx.Response, user: str) -> str:
        """Log a user in and consent, after the answer to an authorization request; return the URL of the response."""
        for form in (
            {"prompt": "login", "login": user, "password": "any"},
            {"prompt": "consent"},
        ):
            answer = browser.post(self._absolute(answer), data=form)
            answer = browser.get(self._absolute(answer))
        return answer.headers["location"]

    def browser(self) -> httpx.Client:
        """Return a browser that trusts the authority of the provider."""
        return httpx.Client(verify=self._tls, trust_env=False, timeout=60)

    def _absolute(self, answer: httpx.Response) -> str:
        return urljoin(self.issuer, answer.headers["location"])

    def rotate(self) -> str:
        """Replace the signing key and return the id of the new one. Logins before are forgotten."""
        return self._http.post("/test/rotate").raise_for_status().json()["kid"]

    def sign(self, claims: dict[str, Any], **header: str) -> str:
        """Return a JWT with these claims, signed with the present key."""
        answer = self._http.post("/test/sign", json={"header": header, "claims": claims})
        return answer.raise_for_status().json()["token"]

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.issuer, verify=self._tls, trust_env=False, timeout=60)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(content)
        return path

    def _answers(self) -> bool:
        assert self._process is not None
        if not self._process.running:
            raise RuntimeError(f"oidc-provider ended while starting:\n{self._process.log_tail()}")
        try:
            return self._http.get("/.well-known/openid-configuration").is_success
        except httpx.TransportError:
            return False

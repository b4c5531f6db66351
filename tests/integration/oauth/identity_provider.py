"""An identity provider that a node trusts. Its keys are in a file, so it needs no server."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from token_service.tokens.jwk import public_jwk

ISSUER = "https://idp.example"
APPLICATION = "app-at-the-idp"
"""The id that the provider gave to the application whose ID tokens count."""
_POLICY = """
[trusted_issuers.idp]
issuer = "{issuer}"
keys = "file:{keys}"
assertions = ["id_token"]
audiences = ["{audience}"]
scopes = {scopes}
global_revocation = true
"""


class IdentityProvider:
    """The key of the provider, and the policy file that makes a node trust it. A context manager."""

    def __init__(self, *scopes: str, policy: str = "") -> None:
        """`scopes`: those that its ID tokens may give. `policy`: more of the policy file."""
        self._more_policy = policy
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._jwk = public_jwk(self._key.public_key())
        self._scopes = scopes

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="token-service-idp-")
        directory = Path(self._directory.name)
        keys, policy = directory / "keys.json", directory / "policy.toml"
        keys.write_text(json.dumps({"keys": [self._jwk]}))
        policy.write_text(
            _POLICY.format(issuer=ISSUER, keys=keys, audience=APPLICATION, scopes=json.dumps([*self._scopes]))
            + self._more_policy
        )
        self.settings = {"TOKEN_SERVICE_POLICY_FILE": str(policy)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()

    def id_token(self, subject: str = "bob", **changes: Any) -> str:
        """Return a new ID token, which serves once."""
        return self.sign({"sub": subject, "aud": APPLICATION, **changes})

    def sign(self, claims: dict[str, Any], typ: str = "JWT") -> str:
        """Return a JWT with these claims, signed now."""
        now = int(time.time())
        times = {"iss": ISSUER, "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        return jwt.encode(times | claims, self._key, "ES256", {"kid": self._jwk["kid"], "typ": typ})

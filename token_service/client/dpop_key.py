"""Keys with which a caller proves the possession of its tokens (RFC 9449).

key = DpopKey.of_file(Path("dpop.pem"))
source = TokenSource(stub, client_id="web", store=store, dpop_key=key)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from token_service.client._internal.dpop_key_file import (
    PrivateKey,
    generate,
    key_algorithm,
    read_or_create,
    signer_of,
)
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.tokens.algorithms import Algorithm, verifier_for
from token_service.tokens.base64url import encode
from token_service.tokens.dpop import PROOF_TYPE, access_token_hash, parse_proof_key
from token_service.tokens.http_uri import normalized
from token_service.tokens.jwk import UnusableKeyError, public_jwk as public_jwk_of
from token_service.tokens.strict_json import encode as json_of

_PROOF_ID_BYTES: Final = 16


class DpopKey:
    """A key that signs DPoP proofs. Any thread may use it.

    `DpopKey.generate()` makes a key that lives as long as the process, `DpopKey.of_file(path)` keeps one in a file, and the
    constructor takes the signer of a key that is elsewhere, e.g. in an HSM.
    """

    def __init__(self, sign: Callable[[bytes], bytes], public_jwk: Mapping[str, Any]) -> None:
        """Use the key of a signer.

        `sign(data)` returns the signature of RFC 7518 with the algorithm of the key: ES256 (r and s, 32 bytes each),
        EdDSA, PS256 or RS256. It may block; any thread may call it. `public_jwk` is the public key; an RSA key is for
        PS256 if its `alg` says so. Raises `ConfigurationError` for a key of another type.
        """
        try:
            algorithm, material = parse_proof_key({"kid": "dpop", **public_jwk})
        except UnusableKeyError as error:
            raise ConfigurationError(f"the public key of the DPoP key can't be used: {error}") from None
        self.algorithm: Algorithm = algorithm
        jwk = public_jwk_of(material, algorithm)
        self.jkt: str = jwk["kid"]
        """The thumbprint of the key (RFC 7638): the `jkt` of tokens that are bound to it."""
        self.public_jwk: dict[str, Any] = {
            name: value for name, value in jwk.items() if name not in {"kid", "use", "alg"}
        }
        """The public key."""
        self.may_block = True
        """Whether signing may wait: the key is that of a signer given."""
        self._sign = sign
        self._verify = verifier_for(material, algorithm)
        self._checked = False
        # All proofs of a key have the same header.
        header = {"typ": PROOF_TYPE, "alg": algorithm.value, "jwk": self.public_jwk}
        self._header = encode(json_of(header)) + "."

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.ES256) -> Self:
        """Generate a key that is only in memory."""
        return cls._of_private_key(generate(algorithm), algorithm)

    @classmethod
    def of_file(cls, path: Path, algorithm: Algorithm = Algorithm.ES256) -> Self:
        """Read the key of a file (PEM, PKCS #8, not encrypted).

        An RSA key is used with PS256 if `algorithm` is PS256, else with RS256. If the file is missing, generate a key
        for `algorithm` and create the file with mode 0600; of several processes that do so at the same time, all use the
        same key. Raises `ConfigurationError` for a file that others may read or write,
        and for a file without a usable key.
        """
        key = read_or_create(path, algorithm)
        return cls._of_private_key(key, key_algorithm(key, algorithm))

    @classmethod
    def _of_private_key(cls, key: PrivateKey, algorithm: Algorithm) -> Self:
        made = cls(signer_of(key, algorithm), public_jwk_of(key.public_key(), algorithm))
        made.may_block = False
        return made

    def proof(
        self,
        method: str,
        uri: str,
        *,
        access_token: str | None = None,
        nonce: str | None = None,
        now: float | None = None,
    ) -> str:
        """Return a new proof for one request: the value of the header `DPoP`.

        The query and the fragment of `uri` are left out. `access_token` is the token that the request presents; None: it
        presents none. `nonce` is the newest one that the recipient gave. `now` is in seconds since the Unix epoch; None: the
        current time. Raises `ValueError` for a URI that is not http or https, or that has user information,
        `SigningUnavailableError` if the signer fails, and `ConfigurationError` if its first signature does not verify.
        """
        normalized(uri)  # raises ValueError
        claims: dict[str, str | int] = {
            "jti": encode(os.urandom(_PROOF_ID_BYTES)),
            "htm": method,
            "htu": uri.partition("#")[0].partition("?")[0],
            "iat": int(time.time() if now is None else now),
        }
        if access_token is not None:
            claims["ath"] = access_token_hash(access_token)
        if nonce is not None:
            claims["nonce"] = nonce
        text = self._header + encode(json_of(claims))
        data = text.encode("ascii")
        try:
            signature = self._sign(data)
        except Exception as error:
            raise SigningUnavailableError(f"the signer of the DPoP key failed: {error}") from error
        if not self._checked:
            if not self._verify(signature, data):
                raise ConfigurationError(
                    f"the signer of the DPoP key returned no {self.algorithm} signature of the given public key"
                )
            self._checked = True
        return f"{text}.{encode(signature)}"

    def __repr__(self) -> str:
        return f"DpopKey({self.algorithm.value}, jkt={self.jkt!r})"

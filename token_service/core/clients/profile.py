"""The security profile of clients: the rules of the FAPI 2.0 Security Profile, and single rules that a client asks for.

The registry and the metadata documents give every client the profile of the service if that is the stricter one. So a
client in memory has the profile in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from token_service.core.clients.client import AuthMethod, Client, ClientMetadata, SecurityProfile
from token_service.core.limits import Checks
from token_service.core.policies.policy import Policy
from token_service.tokens import strict_json
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, Algorithm
from token_service.tokens.assertions import ASSERTION_ALGORITHMS
from token_service.tokens.jwk import UnusableKeyError, parse_public_jwk

FAPI_METHODS: Final = (AuthMethod.PRIVATE_KEY_JWT, AuthMethod.TLS_CLIENT_AUTH)
"""The methods of client authentication (section 5.3.2.1, item 6)."""
FAPI_ALGORITHMS: Final = (Algorithm.PS256, Algorithm.ES256, Algorithm.EDDSA)
"""The algorithms of assertions, DPoP proofs and tokens (section 5.4.1)."""
FAPI_ASSERTION_ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    name: algorithm for name, algorithm in ASSERTION_ALGORITHMS.items() if algorithm in FAPI_ALGORITHMS
}
"""The accepted values of `alg` in client assertions."""
_METHODS: Final = " and ".join(FAPI_METHODS)
_ALGORITHMS: Final = ", ".join(FAPI_ALGORITHMS)


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """The rules for the registration of clients at a service."""

    for_all: SecurityProfile = SecurityProfile.NONE
    """The profile of every client, whatever its own is."""
    signing: Algorithm = Algorithm.ES256
    """The algorithm that signs new tokens of the service."""

    def check(self, checks: Checks, metadata: ClientMetadata) -> None:
        """Note every setting of a client that contradicts its profile."""
        if not is_fapi(metadata) and self.for_all is not SecurityProfile.FAPI2:
            return
        if metadata.token_endpoint_auth_method not in FAPI_METHODS:
            checks.add(
                "token_endpoint_auth_method",
                f"is {metadata.token_endpoint_auth_method}; the security profile fapi2 allows {_METHODS} (FAPI 2.0, "
                "section 5.3.2.1)",
            )
        if metadata.accepts_endpoint_audience:
            checks.add(
                "accepts_endpoint_audience",
                "is true; with the security profile fapi2 the aud of an assertion is the issuer (FAPI 2.0, section 5.3.2.1)",
            )
        for place, algorithm in _algorithms(metadata.jwks):
            if algorithm not in FAPI_ALGORITHMS:
                checks.add(
                    place,
                    f"is a key for {algorithm.value}; the security profile fapi2 allows {_ALGORITHMS} (FAPI 2.0, section "
                    "5.4.1); an RSA key needs the alg PS256",
                )
        if self.signing not in FAPI_ALGORITHMS:
            checks.add(
                "security_profile",
                f"is fapi2, which allows {_ALGORITHMS} (FAPI 2.0, section 5.4.1), but this service signs tokens "
                f"with {self.signing.value}; change TOKEN_SERVICE_SIGNING_ALGORITHM first",
            )


def is_fapi(client: ClientMetadata) -> bool:
    """Tell whether the FAPI 2.0 Security Profile is in force for a client."""
    return client.security_profile is SecurityProfile.FAPI2


def requires_pushed_requests(client: ClientMetadata) -> bool:
    """Tell whether a client must push its authorization requests (RFC 9126, section 6; FAPI 2.0, section 5.3.2.2)."""
    return client.require_pushed_authorization_requests or is_fapi(client)


def may_authenticate(client: ClientMetadata, method: AuthMethod) -> bool:
    """Tell whether a client may authenticate itself by a method: its own, if its profile allows that one."""
    return client.token_endpoint_auth_method is method and (not is_fapi(client) or method in FAPI_METHODS)


def assertion_algorithms(client: ClientMetadata) -> Mapping[str, Algorithm]:
    """Return the accepted values of `alg` in the assertions of a client, with their algorithms."""
    return FAPI_ASSERTION_ALGORITHMS if is_fapi(client) else ASSERTION_ALGORITHMS


def proof_algorithms(client: Client | None) -> Sequence[Algorithm]:
    """Return the algorithms that may sign the DPoP proofs of a client. None: a client that is not registered."""
    return FAPI_ALGORITHMS if client is not None and is_fapi(client) else PUBLIC_KEY_ALGORITHMS


def policy_in_force(policy: Policy, client: Client | None) -> Policy:
    """Return the policy of a client, made stricter by its registration. None: a client that is not registered."""
    if client is None:
        return policy
    if client.security_profile is SecurityProfile.FAPI2:
        return _of_fapi(policy)
    if client.dpop_bound_access_tokens or client.tls_client_certificate_bound_access_tokens:
        return _bound(policy)
    return policy


@lru_cache
def _of_fapi(policy: Policy) -> Policy:
    # Rotation is forbidden (section 5.3.2.1, item 9): the refresh token of a client that proves itself needs none, and a
    # lost response must not end a session.
    return replace(policy, binding_required=True, rotate=False, dpop_nonces=True)


@lru_cache
def _bound(policy: Policy) -> Policy:
    return replace(policy, binding_required=True)


def _algorithms(jwks: str) -> list[tuple[str, Algorithm]]:
    """Return the algorithms of the usable keys of a JWK Set, each with its place in the settings."""
    try:
        keys = strict_json.decode_object(jwks.encode("utf-8", "surrogatepass")).get("keys")
    except ValueError:
        return []  # no keys, or text that another rule refuses
    found = []
    for number, key in enumerate(keys if isinstance(keys, list) else []):
        try:
            found.append((f"jwks.keys[{number}]", parse_public_jwk(key)[1]))
        except (UnusableKeyError, AttributeError):
            continue  # another rule refuses it
    return found

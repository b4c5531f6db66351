"""Rules of the gRPC interceptors: what each method requires."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from token_service.client.proof_rules import ProofRules
from token_service.client.requirements import Requirements
from token_service.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthRules:
    """What each method requires.

    A rule names one method, `/package.Service/Method`, or all methods of a service, `/package.Service/*`. The
    rule of a method has priority over the rule of its service. A method without a rule needs a valid token and
    `default_scopes`.

    A token that is bound to a client certificate is accepted over a connection with this certificate, if the server itself
    ends TLS. A token that is bound to a DPoP key needs a DPoP proof in the metadata `dpop`, and the scheme `DPoP`. The `htm`
    of the proof is `POST`, and its `htu` is `https://authority/package.Service/Method`: one of the origins of `proofs` and
    the path of the method. An interceptor accepts a proof once; it does not know the proofs that other processes accepted.
    If `proofs` demand nonces, a refused call gets the current one in the trailing metadata `dpop-nonce`.
    """

    scopes: Mapping[str, Collection[str] | Requirements] = field(default_factory=dict)
    """The required scopes by rule; a token must have all of them. Or `Requirements`, which may ask for more than scopes."""
    default_scopes: Collection[str] | Requirements = ()
    public: Collection[str] = ()
    """Methods that need no token, e.g. `/grpc.health.v1.Health/*`. The interceptor ignores a token sent to them."""
    audience: str | None = None
    """Replacement for the audience of the validator, where `Requirements` give none."""
    trust_domain: str = ""
    """If given, each call needs a transaction token of this trust domain, in the metadata `txn-token`, instead of an access
    token. The validator must accept the kind TRANSACTION. `audience` is then this domain.
    """
    proofs: ProofRules = field(default_factory=ProofRules)
    """How proofs of keys are checked. By default, tokens that are bound to a DPoP key are refused.

    `origins` are the names that callers know the server by, e.g. `https://orders.example:8443`; the authority that a call
    names is not trusted. The settings about proxies are for HTTP only.
    """
    allow_bound_tokens: bool = False
    """Accept tokens bound to a key (`cnf`) without proof that the caller has the key.

    For handlers that check the proof themselves.
    """

    def __post_init__(self) -> None:
        for name in (*self.scopes, *self.public):
            if name.count("/") != 2 or not name.startswith("/") or name.endswith("/"):
                raise ConfigurationError(f"{name!r} is not /package.Service/Method or /package.Service/*")
        for name, required in (*self.scopes.items(), ("default_scopes", self.default_scopes)):
            if isinstance(required, str):
                raise ConfigurationError(f"the scopes of {name} must be a collection, not one string")
            self._requirements(required)
        if self.proofs.trusted_proxies:
            raise ConfigurationError(
                "AuthRules.proofs has trusted_proxies, but interceptors believe no proxy; remove it"
            )
        both = set(self.scopes) & set(self.public)
        if both:
            raise ConfigurationError(f"{min(both)} is public and needs scopes; remove one rule")

        if self.trust_domain and self.audience is not None:
            raise ConfigurationError(
                "the audience of transaction tokens is the trust_domain; leave audience out"
            )

    def required(self, method: str) -> Requirements | None:
        """Return what a method requires, or None if it is public."""
        for name in (method, f"{method.rpartition('/')[0]}/*"):
            if name in self.public:
                return None
            if name in self.scopes:
                return self._requirements(self.scopes[name])
        return self._requirements(self.default_scopes)

    def _requirements(self, required: Collection[str] | Requirements) -> Requirements:
        audience = self.trust_domain or self.audience
        if not isinstance(required, Requirements):
            return Requirements(scopes=required, audience=audience)
        if required.audience is None and audience is not None:
            return replace(required, audience=audience)
        return required

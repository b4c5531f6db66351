"""Workload issuers: systems whose JWTs prove the identity of a caller.

Two kinds exist. A SPIFFE trust domain issues JWT-SVIDs; their `sub` is the name of the caller. Any other issuer, such
as a Kubernetes cluster with its service-account tokens, has a name here, and its callers are
`workload:<name>:<sub>`, so that no issuer can name the callers of another one.

    [workload_issuers.cluster-a]
    issuer = "https://kubernetes.default.svc.cluster.local"
    audience = "https://tokens.example.org"
    keys = "discovery"
    private = true
    ca_file = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    bearer_token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token"

    [workload_issuers.mesh]
    trust_domain = "example.org"
    audience = "https://tokens.example.org"
    keys = "file:/run/spire/bundle.json"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from token_service.clock import Clock
from token_service.core.access.foreign_issuers import (
    MAX_LIFETIME,
    PLACE_SETTINGS,
    ForeignIssuer,
    IssuerIndex,
    check_place,
    domain_of,
    parse_issuers,
    place_settings,
    require_known,
    require_text,
)
from token_service.core.access.key_sources import KeySource
from token_service.errors import CallerUnauthenticatedError, InvalidTokenError
from token_service.tokens.assertions import UnverifiedAssertion, audiences, verify_assertion

WORKLOAD_TYPES: Final = ("JWT", "JOSE")
"""The accepted values of `typ` of a workload token."""
_MAX_SUBJECT: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIssuer(ForeignIssuer):
    """An issuer of the policy file whose tokens identify workloads."""

    TABLE: ClassVar[str] = "workload_issuers"
    audience: str
    """The audience that its tokens must name: this service."""


def parse_workload_issuers(document: Mapping[str, Any]) -> dict[str, WorkloadIssuer]:
    """Return the workload issuers by name. Raises `ConfigurationError`, which lists every mistake."""
    return parse_issuers(document, WorkloadIssuer.TABLE, _issuer)


def _issuer(name: str, settings: dict[str, Any]) -> WorkloadIssuer:
    require_known(settings, (*PLACE_SETTINGS, "audience"))
    place = place_settings(settings)
    if "audience" in settings:
        require_text("audience", settings["audience"])
    if "audience" not in settings or "keys" not in settings:
        raise ValueError("needs audience and keys")
    issuer = WorkloadIssuer(name=name, audience=settings["audience"], **place)
    check_place(issuer)
    return issuer


class Workloads:
    """Identifies workloads by their tokens."""

    def __init__(self, issuers: Sequence[tuple[WorkloadIssuer, KeySource]], clock: Clock) -> None:
        self._issuers = IssuerIndex(issuers)
        self._names = {each.name for each, _ in issuers}
        self._clock = clock

    def trusts(self, name: str) -> bool:
        """Tell whether the issuer that named a caller before is still one of the issuers."""
        kind, _, rest = name.partition(":")
        if kind == "workload":
            return rest.partition(":")[0] in self._names
        return self._issuers.has_domain(domain_of(name))

    async def identify(self, parsed: UnverifiedAssertion) -> tuple[str, float]:
        """Return the name of the caller and the expiry of the token.

        Raises `CallerUnauthenticatedError`, and `ForeignKeysUnavailableError` if the keys can't be fetched.
        """
        found = self._issuers.find(parsed)
        if found is None:
            raise CallerUnauthenticatedError("the issuer of the bearer token is not trusted")
        issuer, source = found
        key_set = await source.keys(parsed.key_id)
        try:
            claims = verify_assertion(
                parsed, key_set, now=self._clock.now(), max_lifetime=MAX_LIFETIME, types=WORKLOAD_TYPES
            )
        except InvalidTokenError as error:
            raise CallerUnauthenticatedError(f"the workload token is not accepted: {error.message}") from None
        if issuer.audience not in audiences(claims):
            raise CallerUnauthenticatedError("the workload token is not accepted: it is for another audience")
        if "cnf" in claims:
            raise CallerUnauthenticatedError(
                "the workload token is not accepted: it is bound to a key (cnf), and no proof of this key is accepted"
            )
        subject = parsed.text("sub")
        if issuer.trust_domain:
            return subject, float(claims["exp"])
        if not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable():
            raise CallerUnauthenticatedError("the workload token is not accepted: its sub is no name")
        return f"workload:{issuer.name}:{subject}", float(claims["exp"])

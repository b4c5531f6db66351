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

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from token_service.clock import Clock
from token_service.core.access.key_sources import KeySource
from token_service.core.access.names import is_spiffe_id
from token_service.errors import CallerUnauthenticatedError, ConfigurationError, InvalidTokenError
from token_service.suggestions import did_you_mean, listed
from token_service.tokens.assertions import UnverifiedAssertion, audiences, verify_assertion

MAX_LIFETIME: Final = 25 * 3600.0
"""Seconds that `exp` of a workload token may be ahead. Kubernetes issues tokens for up to a day by default."""
MAX_ISSUERS: Final = 32
DISCOVERY: Final = "discovery"
FILE: Final = "file:"
_TYPES: Final = ("JWT", "JOSE")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_MAX_SUBJECT: Final = 512
_SETTINGS: Final = ("issuer", "trust_domain", "audience", "keys", "private", "ca_file", "bearer_token_file")


@dataclass(frozen=True, slots=True)
class WorkloadIssuer:
    """An issuer of the policy file."""

    name: str
    audience: str
    """The audience that its tokens must name: this service."""
    keys: str
    """`discovery` (OpenID Connect Discovery), an https URL of a JWK Set, or `file:` with the path of one."""
    issuer: str = ""
    """`iss`, compared exactly. Empty for a SPIFFE trust domain."""
    trust_domain: str = ""
    private: bool = False
    """Whether the keys may come from a private address."""
    ca_file: str = ""
    """Path of the certificate authorities of the server of the keys. Empty: those of the system."""
    bearer_token_file: str = ""
    """Path of the bearer token that this server demands. Empty: none."""


def parse_workload_issuers(document: Mapping[str, Any]) -> dict[str, WorkloadIssuer]:
    """Return the workload issuers by name. Raises `ConfigurationError`, which lists every mistake."""
    table = document.get("workload_issuers", {})
    if not isinstance(table, dict):
        raise ConfigurationError("workload_issuers: must be a table")
    problems: list[str] = []
    issuers: dict[str, WorkloadIssuer] = {}
    if len(table) > MAX_ISSUERS:
        problems.append(f"workload_issuers: more than {MAX_ISSUERS}")
    for name, settings in table.items():
        try:
            issuers[name] = _issuer(name, settings)
        except ValueError as error:
            problems.append(f"workload_issuers.{name}: {error}")
    for field in ("issuer", "trust_domain"):
        values = [value for each in issuers.values() if (value := getattr(each, field))]
        problems += [
            f"workload_issuers: {value!r} is the {field} of several entries"
            for value in sorted(set(values))
            if values.count(value) > 1
        ]
    if problems:
        raise ConfigurationError(listed("the workload issuers are invalid:", problems))
    return issuers


def _issuer(name: str, settings: Any) -> WorkloadIssuer:
    if _NAME.fullmatch(name) is None:
        raise ValueError("the name must have lower-case letters, digits and inner dashes, at most 64")
    if not isinstance(settings, dict):
        raise ValueError("must be a table")
    for key, value in settings.items():
        if key not in _SETTINGS:
            raise ValueError(
                f"{key}: no such setting; allowed: {', '.join(_SETTINGS)}{did_you_mean(key, _SETTINGS)}"
            )
        if key == "private":
            if not isinstance(value, bool):
                raise ValueError("private: must be true or false")
        elif not isinstance(value, str) or not value:
            raise ValueError(f"{key}: must be a text")
    issuer = WorkloadIssuer(name=name, **{"audience": "", "keys": "", **settings})
    if not issuer.audience or not issuer.keys:
        raise ValueError("needs audience and keys")
    if bool(issuer.issuer) == bool(issuer.trust_domain):
        raise ValueError("needs either issuer or trust_domain")
    if issuer.trust_domain and not is_spiffe_id(f"spiffe://{issuer.trust_domain}"):
        raise ValueError("trust_domain: is no SPIFFE trust domain, such as example.org")
    if issuer.keys == DISCOVERY and not issuer.issuer.startswith("https://"):
        raise ValueError("keys: discovery needs an issuer that is an https URL")
    if issuer.keys != DISCOVERY and not issuer.keys.startswith((FILE, "https://")):
        raise ValueError('keys: must be "discovery", an https URL or "file:" and a path')
    return issuer


class Workloads:
    """Identifies workloads by their tokens."""

    def __init__(self, issuers: Sequence[tuple[WorkloadIssuer, KeySource]], clock: Clock) -> None:
        self._by_issuer = {each.issuer: (each, keys) for each, keys in issuers if each.issuer}
        self._by_domain = {each.trust_domain: (each, keys) for each, keys in issuers if each.trust_domain}
        self._names = {each.name for each, _ in issuers}
        self._clock = clock

    def trusts(self, name: str) -> bool:
        """Tell whether the issuer that named a caller before is still one of the issuers."""
        kind, _, rest = name.partition(":")
        if kind == "workload":
            return rest.partition(":")[0] in self._names
        return _domain_of(name) in self._by_domain

    async def identify(self, parsed: UnverifiedAssertion) -> tuple[str, float]:
        """Return the name of the caller and the expiry of the token.

        Raises `CallerUnauthenticatedError`, and `ForeignKeysUnavailableError` if the keys can't be fetched.
        """
        found = self._issuer_of(parsed)
        if found is None:
            raise CallerUnauthenticatedError("the issuer of the bearer token is not trusted")
        issuer, source = found
        key_set = await source.keys(parsed.key_id)
        try:
            claims = verify_assertion(
                parsed, key_set, now=self._clock.now(), max_lifetime=MAX_LIFETIME, types=_TYPES
            )
        except InvalidTokenError as error:
            raise CallerUnauthenticatedError(f"the workload token is not accepted: {error.message}") from None
        if issuer.audience not in audiences(claims):
            raise CallerUnauthenticatedError("the workload token is not accepted: it is for another audience")
        subject = parsed.text("sub")
        if issuer.trust_domain:
            return subject, float(claims["exp"])
        if not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable():
            raise CallerUnauthenticatedError("the workload token is not accepted: its sub is no name")
        return f"workload:{issuer.name}:{subject}", float(claims["exp"])

    def _issuer_of(self, parsed: UnverifiedAssertion) -> tuple[WorkloadIssuer, KeySource] | None:
        subject = parsed.text("sub")
        if is_spiffe_id(subject):
            found = self._by_domain.get(_domain_of(subject))
            if found is not None:
                return found
        return self._by_issuer.get(parsed.text("iss"))


def _domain_of(spiffe_id: str) -> str:
    return spiffe_id.removeprefix("spiffe://").partition("/")[0]

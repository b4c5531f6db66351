"""Other issuers whose tokens this service verifies: how the policy file names them and the place of their keys.

Two tables of the policy file have such entries: `workload_issuers` (their tokens prove callers) and `trusted_issuers`
(their tokens are grants at the token endpoint).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from token_service.core.access.key_sources import KeySource
from token_service.core.access.names import is_spiffe_id
from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed
from token_service.tokens.assertions import UnverifiedAssertion

MAX_LIFETIME: Final = 25 * 3600.0
"""Seconds that `exp` of a token of another issuer may be ahead. Kubernetes issues tokens for up to a day by default."""
MAX_ISSUERS: Final = 32
DISCOVERY: Final = "discovery"
FILE: Final = "file:"
PLACE_SETTINGS: Final = ("issuer", "trust_domain", "keys", "private", "ca_file", "bearer_token_file")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """The place of the keys of an issuer, and how to read it. Equal places share one source."""

    keys: str
    issuer: str
    """The issuer whose discovery document names the keys; empty without discovery."""
    private: bool
    ca_file: str
    bearer_token_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignIssuer:
    """An issuer of the policy file."""

    TABLE: ClassVar[str]
    name: str
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

    @property
    def place(self) -> KeyPlace:
        """The place of its keys."""
        issuer = self.issuer if self.keys == DISCOVERY else ""
        return KeyPlace(self.keys, issuer, self.private, self.ca_file, self.bearer_token_file)

    def __str__(self) -> str:
        return f"{self.TABLE}.{self.name}"


IssuerT = TypeVar("IssuerT", bound=ForeignIssuer)


def parse_issuers(
    document: Mapping[str, Any], table: str, parse: Callable[[str, dict[str, Any]], IssuerT]
) -> dict[str, IssuerT]:
    """Return the issuers of a table by name. Raises `ConfigurationError`, which lists every mistake.

    `parse` reads one entry and raises `ValueError`.
    """
    entries = document.get(table, {})
    if not isinstance(entries, dict):
        raise ConfigurationError(f"{table}: must be a table")
    problems: list[str] = []
    issuers: dict[str, IssuerT] = {}
    if len(entries) > MAX_ISSUERS:
        problems.append(f"{table}: more than {MAX_ISSUERS}")
    for name, settings in entries.items():
        try:
            if _NAME.fullmatch(name) is None:
                raise ValueError("the name must have lower-case letters, digits and inner dashes, at most 64")
            if not isinstance(settings, dict):
                raise ValueError("must be a table")
            issuers[name] = parse(name, settings)
        except ValueError as error:
            problems.append(f"{table}.{name}: {error}")
    for field in ("issuer", "trust_domain"):
        values = [value for each in issuers.values() if (value := getattr(each, field))]
        problems += [
            f"{table}: {value!r} is the {field} of several entries"
            for value in sorted(set(values))
            if values.count(value) > 1
        ]
    if problems:
        raise ConfigurationError(listed(f"the {table.replace('_', ' ')} are invalid:", problems))
    return issuers


def require_known(settings: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ValueError` for a setting that is not known."""
    known = tuple(known)
    for key in settings:
        if key not in known:
            raise ValueError(f"{key}: no such setting; allowed: {', '.join(known)}{did_you_mean(key, known)}")


def require_text(key: str, value: Any) -> str:
    """Return a setting that is a text with characters. Raises `ValueError`."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: must be a text")
    return value


def require_flag(key: str, value: Any) -> bool:
    """Return a setting that is true or false. Raises `ValueError`."""
    if not isinstance(value, bool):
        raise ValueError(f"{key}: must be true or false")
    return value


def place_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an entry that tell its issuer and the place of its keys. Raises `ValueError`."""
    return {
        key: (require_flag if key == "private" else require_text)(key, settings[key])
        for key in PLACE_SETTINGS
        if key in settings
    }


def check_place(issuer: ForeignIssuer, schemes: tuple[str, ...] = ("https://",)) -> None:
    """Raise `ValueError` unless an issuer and the place of its keys fit together. `schemes`: what their URLs begin with."""
    if bool(issuer.issuer) == bool(issuer.trust_domain):
        raise ValueError("needs either issuer or trust_domain")
    if issuer.trust_domain and not is_spiffe_id(f"spiffe://{issuer.trust_domain}"):
        raise ValueError("trust_domain: is no SPIFFE trust domain, such as example.org")
    if issuer.keys == DISCOVERY and not issuer.issuer.startswith(schemes):
        raise ValueError("keys: discovery needs an issuer that is an https URL")
    if issuer.keys != DISCOVERY and not issuer.keys.startswith((FILE, *schemes)):
        raise ValueError('keys: must be "discovery", an https URL or "file:" and a path')


class IssuerIndex(Generic[IssuerT]):
    """Issuers with their keys, found by the claims of an assertion."""

    def __init__(self, issuers: Iterable[tuple[IssuerT, KeySource]]) -> None:
        entries = list(issuers)
        self._all = tuple(each for each, _ in entries)
        self._by_issuer = {each.issuer: (each, keys) for each, keys in entries if each.issuer}
        self._by_domain = {each.trust_domain: (each, keys) for each, keys in entries if each.trust_domain}

    def __iter__(self) -> Iterator[IssuerT]:
        return iter(self._all)

    def find(self, parsed: UnverifiedAssertion) -> tuple[IssuerT, KeySource] | None:
        """Return the issuer that an assertion claims to be from; None: it is none of these."""
        subject = parsed.text("sub")
        if is_spiffe_id(subject):
            found = self._by_domain.get(domain_of(subject))
            if found is not None:
                return found
        return self._by_issuer.get(parsed.text("iss"))

    def named(self, issuer: str) -> IssuerT | None:
        """Return the issuer with this `iss`."""
        found = self._by_issuer.get(issuer)
        return None if found is None else found[0]

    def has_domain(self, domain: str) -> bool:
        """Tell whether a SPIFFE trust domain is one of the issuers."""
        return domain in self._by_domain


def domain_of(spiffe_id: str) -> str:
    """Return the trust domain of a SPIFFE ID."""
    return spiffe_id.removeprefix("spiffe://").partition("/")[0]

"""Trusted issuers: systems whose assertions are grants at the token endpoint (RFC 7523, section 2.1).

    [trusted_issuers.acme]
    issuer = "https://login.acme.example"
    keys = "discovery"
    assertions = ["id_token", "id_jag"]
    audiences = ["shop-at-acme"]
    scopes = ["openid", "orders:read"]

    [trusted_issuers.acme.roles]
    claim = "groups"
    values = { "acme-shop-admins" = "admin" }

An assertion of `acme` about the user `alice` gives tokens for the subject `acme:alice`. Since the name of the entry is
part of the subject, no issuer can name the users of another one, unless `subject` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final

from token_service.core.access.foreign_issuers import (
    PLACE_SETTINGS,
    ForeignIssuer,
    IssuerIndex,
    check_place,
    parse_issuers,
    place_settings,
    require_flag,
    require_known,
    require_text,
)
from token_service.core.access.key_sources import KeySource
from token_service.core.grants.subjects import MEMBERSHIPS, Membership, SubjectTemplate
from token_service.core.limits import MAX_AUDIENCE, MAX_CLIENT_ID, MAX_SCOPES, Checks
from token_service.durations import parse_duration
from token_service.errors import ConfigurationError, InvalidRequestError
from token_service.suggestions import did_you_mean, shown
from token_service.tokens.assertions import UnverifiedAssertion
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL

OWN: Final = "own"
"""`keys` of the entry for the ID tokens of this service itself."""
MAX_AGE: Final = MAX_ACCESS_TOKEN_TTL
"""Seconds since `iat` that an assertion may be accepted. The revocation of a subject is remembered for longer, so it
refuses every older assertion about the subject."""
MAX_NAMES: Final = 256
"""Audiences or clients of an issuer."""
ID_JAG_TYPE: Final = "oauth-id-jag+jwt"


class AssertionKind(StrEnum):
    """The kinds of assertion."""

    ID_TOKEN = "id_token"
    """An ID token (OpenID Connect Core 1.0, section 2)."""
    ID_JAG = "id_jag"
    """An identity assertion JWT authorization grant (draft-ietf-oauth-identity-assertion-authz-grant)."""
    WORKLOAD = "workload"
    """A token that a workload has from its platform: of a Kubernetes service account, or a SPIFFE JWT-SVID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer(ForeignIssuer):
    """An issuer of the policy file whose assertions are grants."""

    TABLE: ClassVar[str] = "trusted_issuers"
    assertions: tuple[AssertionKind, ...]
    """The kinds that it may issue. Either ID tokens or workload tokens, because `typ` does not tell them apart."""
    audiences: tuple[str, ...] = ()
    """The values that `aud` of an ID token or workload token may have. Empty: this service, for workload tokens."""
    clients: tuple[str, ...] = ()
    """The clients that may present its assertions. Empty: every client with this grant type."""
    subject: SubjectTemplate
    memberships: tuple[Membership, ...] = ()
    scopes: tuple[str, ...] = ()
    """The scopes that its assertions may give."""
    max_age: float = MAX_AGE
    """Seconds since `iat` after which an assertion is refused."""
    max_auth_age: float | None = None
    """Seconds since `auth_time` after which an assertion is refused; None: `auth_time` is not checked."""
    refresh_tokens: bool = False
    """Whether a client that asks for `offline_access` gets a refresh token for an ID token or workload token."""
    reusable: bool = False
    """Whether a workload token may be presented several times."""
    global_revocation: bool = False
    """Whether the issuer may ask for the revocation of its subjects."""

    @property
    def is_own(self) -> bool:
        """Whether the issuer is this service itself."""
        return self.keys == OWN


_SETTINGS: Final = (
    *PLACE_SETTINGS, "assertions", "audiences", "clients", "subject", *MEMBERSHIPS, "scopes", "max_age",
    "max_auth_age", "refresh_tokens", "reusable", "global_revocation",
)  # fmt: skip


def parse_trusted_issuers(document: Mapping[str, Any]) -> dict[str, TrustedIssuer]:
    """Return the trusted issuers by name. Raises `ConfigurationError`, which lists every mistake."""
    issuers = parse_issuers(document, TrustedIssuer.TABLE, _issuer)
    if sum(each.is_own for each in issuers.values()) > 1:
        raise ConfigurationError(f'{TrustedIssuer.TABLE}: several entries have keys = "{OWN}"')
    return issuers


def _issuer(name: str, settings: dict[str, Any]) -> TrustedIssuer:
    require_known(settings, _SETTINGS)
    if "keys" not in settings or "assertions" not in settings:
        raise ValueError("needs keys and assertions")
    is_own = settings["keys"] == OWN
    values: dict[str, Any] = {
        "assertions": _kinds(settings["assertions"]),
        "memberships": tuple(
            Membership.parse(each, settings[each]) for each in MEMBERSHIPS if each in settings
        ),
        "subject": SubjectTemplate.parse(
            require_text("subject", settings.get("subject", "{sub}" if is_own else f"{name}:{{sub}}"))
        ),
    }
    for key, longest in (("audiences", MAX_AUDIENCE), ("clients", MAX_CLIENT_ID)):
        if key in settings:
            values[key] = _texts(key, settings[key], longest)
    if "scopes" in settings:
        values["scopes"] = _scopes(settings["scopes"])
    for key in ("max_age", "max_auth_age"):
        if key in settings:
            values[key] = _span(key, settings[key])
    for key in ("refresh_tokens", "reusable", "global_revocation"):
        if key in settings:
            values[key] = require_flag(key, settings[key])
    issuer = TrustedIssuer(name=name, **place_settings(settings), **values)
    if issuer.max_age > MAX_AGE:
        raise ValueError(f"max_age: is longer than {MAX_AGE} s")
    (_check_own if is_own else _check_foreign)(issuer)
    return issuer


def _check_own(issuer: TrustedIssuer) -> None:
    for key in (*PLACE_SETTINGS, "audiences"):
        if key != "keys" and getattr(issuer, key):
            raise ValueError(f'{key}: has no meaning with keys = "{OWN}"')
    if issuer.assertions != (AssertionKind.ID_TOKEN,):
        raise ValueError(f'assertions: must be ["id_token"] with keys = "{OWN}"')
    for key in ("refresh_tokens", "reusable", "global_revocation"):
        if getattr(issuer, key):
            raise ValueError(f'{key}: must be false with keys = "{OWN}"')


def _check_foreign(issuer: TrustedIssuer) -> None:
    check_place(issuer)
    kinds = issuer.assertions
    if AssertionKind.ID_TOKEN in kinds and AssertionKind.WORKLOAD in kinds:
        raise ValueError(
            "assertions: has id_token and workload, which no check could tell apart; write one of them"
        )
    if AssertionKind.ID_TOKEN in kinds and not issuer.audiences:
        raise ValueError(
            "audiences: is required for id_token: the ids that the issuer gave to the applications whose ID tokens count"
        )
    if issuer.audiences and kinds == (AssertionKind.ID_JAG,):
        raise ValueError("audiences: has no meaning for id_jag, whose audience is this service")
    if issuer.trust_domain and kinds != (AssertionKind.WORKLOAD,):
        raise ValueError('assertions: must be ["workload"] with trust_domain')
    if issuer.reusable and kinds != (AssertionKind.WORKLOAD,):
        raise ValueError('reusable: is only for assertions = ["workload"]')
    if issuer.global_revocation and not issuer.issuer:
        raise ValueError("global_revocation: needs an issuer")
    if issuer.refresh_tokens and kinds == (AssertionKind.ID_JAG,):
        raise ValueError("refresh_tokens: has no meaning for id_jag, which never gives one")


def _kinds(value: Any) -> tuple[AssertionKind, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"assertions: must be a list of {', '.join(AssertionKind)}")
    for item in value:
        if not isinstance(item, str) or item not in tuple(AssertionKind):
            near = did_you_mean(item, AssertionKind) if isinstance(item, str) else ""
            raise ValueError(f"assertions: {shown(item)} is none of {', '.join(AssertionKind)}{near}")
    return tuple(map(AssertionKind, dict.fromkeys(value)))


def _texts(key: str, value: Any, longest: int) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_NAMES:
        raise ValueError(f"{key}: must be a list of 1 to {MAX_NAMES} texts")
    for item in value:
        if not isinstance(item, str) or not 0 < len(item) <= longest or not item.isprintable():
            raise ValueError(f"{key}: {shown(item)} is no printable text of at most {longest} characters")
    return tuple(dict.fromkeys(value))


def _scopes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"scopes: must be a list of at most {MAX_SCOPES} scopes")
    checks = Checks()
    checks.scopes("scopes", value)
    try:
        checks.done()
    except InvalidRequestError as error:
        raise ValueError(error.message) from None
    return tuple(value)


def _span(key: str, value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError(f'{key}: must be a time, such as "10m"')
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if seconds < 1:
        raise ValueError(f"{key}: is shorter than a second")
    return seconds


class TrustedIssuers:
    """The trusted issuers of a policy document, with the sources of their keys."""

    def __init__(
        self, issuers: Sequence[tuple[TrustedIssuer, KeySource]], *, own: TrustedIssuer | None, service: str
    ) -> None:
        """`own`: the entry for this service itself, whose `iss` is `service`. Raises `ConfigurationError`."""
        self._index = IssuerIndex(issuers)
        self._own = own
        self._service = service
        self.names = (*(each.name for each, _ in issuers), *((own.name,) if own is not None else ()))
        """The names of the entries."""
        clash = self._index.named(service)
        if clash is not None:
            raise ConfigurationError(
                f'{clash}: issuer: is this service itself; write keys = "{OWN}" and no issuer'
            )
        self.take_id_jag = any(AssertionKind.ID_JAG in each.assertions for each, _ in issuers)
        """Whether an issuer may issue an ID-JAG."""

    def find(self, parsed: UnverifiedAssertion) -> tuple[TrustedIssuer, KeySource | None] | None:
        """Return the issuer that an assertion claims to be from, and its keys; None: it is not trusted.

        No keys: the issuer is this service.
        """
        if parsed.text("iss") == self._service:
            return None if self._own is None else (self._own, None)
        return self._index.find(parsed)

    def subject_of(self, issuer: str, subject: str) -> str:
        """Return the subject here that another issuer calls `subject`. Raises `ValueError` with the problem."""
        if issuer == self._service:
            return subject
        trusted = self._index.named(issuer)
        if trusted is None:
            raise ValueError("iss is no trusted issuer")
        if trusted.subject.claims != {"sub"}:
            raise ValueError("the subjects of this issuer do not follow from sub alone")
        return trusted.subject.of({"sub": subject})

    def subject_with_email(self, email: str) -> str:
        """Return the subject here that has an email address.

        Raises `ValueError` unless exactly one issuer names its subjects by their address.
        """
        by_email = [each for each in self._index if each.subject.claims == {"email"}]
        if len(by_email) != 1:
            raise ValueError("no issuer, or more than one, names its subjects by email")
        return by_email[0].subject.of({"email": email, "email_verified": True})

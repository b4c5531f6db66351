"""Settings of the upstreams of kind `oidc`: this service is a relying party of an OpenID Connect provider.

    [upstreams.corporate]
    kind = "oidc"
    issuer = "https://login.corporate.example"
    client_id = "tokens"
    client_secret_file = "/etc/token-service/corporate.secret"
    scopes = ["openid", "email"]
    identity_claims = ["email", "email_verified"]

    [upstreams.corporate.acr]
    "urn:corporate:two-factor" = "mfa"

The user `alice` of this provider is the subject `corporate:alice` here. Since the name of the upstream is part of the
subject, no upstream can name the users of another one, unless `subject` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.core.access.foreign_issuers import (
    DISCOVERY,
    KeyPlace,
    require_flag,
    require_known,
    require_text,
)
from token_service.core.grants.subjects import MEMBERSHIPS, Membership, SubjectTemplate
from token_service.core.limits import MAX_ACR, MAX_CUSTOM_CLAIMS, MAX_SCOPES, Checks
from token_service.core.policies.custom_claims import forbidden_claims
from token_service.errors import InvalidRequestError
from token_service.suggestions import shown

OPENID: Final = "openid"
MAX_ACR_ENTRIES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """An OpenID Connect provider of the policy file."""

    name: str
    issuer: str
    """`iss`, compared exactly; its discovery document names the endpoints and the keys."""
    client_id: str
    """The id of this service at the provider."""
    client_secret_file: str
    """Path of the secret for `client_secret_basic`. It is read at each login."""
    scopes: tuple[str, ...] = (OPENID,)
    """The scopes that this service asks for."""
    subject: SubjectTemplate
    memberships: tuple[Membership, ...] = ()
    identity_claims: tuple[str, ...] = ()
    """Claims about the user that the userinfo endpoint of this service may return."""
    userinfo: bool = False
    """Whether to ask the userinfo endpoint of the provider for the claims that the ID token lacks."""
    acr: tuple[tuple[str, str], ...] = ()
    """Pairs of an authentication context class of the provider and its name here."""
    pass_acr: bool = False
    """Whether other classes keep their names."""
    private: bool = False
    """Whether the provider may have a private address."""
    ca_file: str = ""
    """Path of the certificate authorities of the provider. Empty: those of the system."""

    @property
    def place(self) -> KeyPlace:
        """The place of its keys."""
        return KeyPlace(DISCOVERY, self.issuer, self.private, self.ca_file, "")

    def acr_here(self, acr: str) -> str:
        """Return the name here of a class of the provider; empty: it counts for nothing."""
        return dict(self.acr).get(acr, acr if self.pass_acr else "")

    def acrs_there(self, acr_values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the classes of the provider that give one of these classes, in order of preference."""
        mapped = {there for there, _ in self.acr}
        found: list[str] = []
        for value in acr_values:
            found += [there for there, here in self.acr if here == value]
            if self.pass_acr and value not in mapped:
                found.append(value)
        return tuple(dict.fromkeys(found))

    def __str__(self) -> str:
        return f"upstreams.{self.name}"


_TEXTS: Final = ("issuer", "client_id", "client_secret_file", "ca_file")
_FLAGS: Final = ("userinfo", "pass_acr", "private")
SETTINGS: Final = ("kind", *_TEXTS, *_FLAGS, "scopes", "subject", *MEMBERSHIPS, "identity_claims", "acr")


def parse_oidc(name: str, settings: Mapping[str, Any]) -> OidcSettings:
    """Return the settings in a table of the policy file. Raises `ValueError`."""
    require_known(settings, SETTINGS)
    for key in ("issuer", "client_id", "client_secret_file"):
        if key not in settings:
            raise ValueError(f"{key}: is required")
    values: dict[str, Any] = {key: require_text(key, settings[key]) for key in _TEXTS if key in settings}
    values |= {key: require_flag(key, settings[key]) for key in _FLAGS if key in settings}
    if "scopes" in settings:
        values["scopes"] = _scopes(settings["scopes"])
    if "identity_claims" in settings:
        values["identity_claims"] = _claims(settings["identity_claims"])
    if "acr" in settings:
        values["acr"] = _acr(settings["acr"])
    upstream = OidcSettings(
        name=name,
        subject=SubjectTemplate.parse(require_text("subject", settings.get("subject", f"{name}:{{sub}}"))),
        memberships=tuple(Membership.parse(each, settings[each]) for each in MEMBERSHIPS if each in settings),
        **values,
    )
    if not upstream.issuer.startswith("https://") and not (
        upstream.private and upstream.issuer.startswith("http://")
    ):
        raise ValueError(
            "issuer: must be an https URL (with private = true, http reaches loopback addresses)"
        )
    return upstream


def _texts(key: str, value: Any, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= most:
        raise ValueError(f"{key}: must be a list of 1 to {most} texts")
    for item in value:
        if not isinstance(item, str) or not item or not item.isprintable():
            raise ValueError(f"{key}: {shown(item)} is no printable text")
    return tuple(dict.fromkeys(value))


def _scopes(value: Any) -> tuple[str, ...]:
    scopes = _texts("scopes", value, MAX_SCOPES)
    checks = Checks()
    checks.scopes("scopes", scopes)
    try:
        checks.done()
    except InvalidRequestError as error:
        raise ValueError(error.message) from None
    if OPENID not in scopes:
        raise ValueError(f"scopes: lacks {OPENID}, without which the provider issues no ID token")
    return scopes


def _claims(value: Any) -> tuple[str, ...]:
    names = _texts("identity_claims", value, MAX_CUSTOM_CLAIMS)
    forbidden = forbidden_claims(names)
    if forbidden:
        raise ValueError(f"identity_claims: {forbidden[0]} is set by this service, or names a secret")
    return names


def _acr(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_ACR_ENTRIES:
        raise ValueError(f"acr: must be a table of 1 to {MAX_ACR_ENTRIES} classes of the provider")
    for there, here in value.items():
        # `acr_values` separates them by spaces (OpenID Connect Core 1.0, section 3.1.2.1).
        for text in (there, here):
            if not isinstance(text, str) or not 0 < len(text) <= MAX_ACR or " " in text:
                raise ValueError(f"acr: {shown(there)} = {shown(here)} is no pair of texts without spaces")
    return tuple(value.items())

"""The settings of a client in groups, as its page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

import msgspec

from token_service.core.clients.client import ClientMetadata

GROUPS: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "Authentication": (
            "token_endpoint_auth_method",
            "jwks_uri",
            "jwks",
            "accepts_endpoint_audience",
            "tls_client_auth_san_uri",
            "tls_client_auth_san_dns",
        ),
        "Tokens": (
            "grant_types",
            "scopes",
            "audiences",
            "classification",
            "dpop_bound_access_tokens",
            "tls_client_certificate_bound_access_tokens",
        ),
        "Login": (
            "redirect_uris",
            "post_logout_redirect_uris",
            "backchannel_logout_uri",
            "allowed_origins",
            "first_party",
            "subject_type",
            "sector_identifier_uri",
            "require_pushed_authorization_requests",
            "security_profile",
        ),
    }
)
"""The settings, except the name and the rights, which the page shows at other places."""
_ALWAYS: Final = frozenset({"token_endpoint_auth_method", "grant_types", "scopes", "audiences"})
"""Settings that are shown even if they have their defaults."""
_EMPTY: Final = MappingProxyType({"scopes": "any", "audiences": "any", "grant_types": "none"})
_DEFAULTS: Final = ClientMetadata()


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting with the values that it has."""

    name: str
    values: Sequence[str]
    is_long: bool = False
    """Whether the value is a document."""


@dataclass(frozen=True, slots=True)
class SettingGroup:
    """Settings with one subject. `unset`: the names of settings with their defaults."""

    title: str
    settings: Sequence[Setting]
    unset: Sequence[str]


def settings_of(client: ClientMetadata) -> Sequence[SettingGroup]:
    """Return the settings of a client."""
    groups = []
    for title, names in GROUPS.items():
        shown = [
            name for name in names if name in _ALWAYS or getattr(client, name) != getattr(_DEFAULTS, name)
        ]
        unset = [name for name in names if name not in shown]
        groups.append(SettingGroup(title, [_setting(client, name) for name in shown], unset))
    return groups


def _setting(client: ClientMetadata, name: str) -> Setting:
    value = getattr(client, name)
    if name == "jwks":
        return Setting(name, [_indented(value)], is_long=True)
    if isinstance(value, tuple):
        return Setting(name, value or [_EMPTY.get(name, "none")])
    if isinstance(value, bool):
        return Setting(name, ["yes" if value else "no"])
    return Setting(name, [value.value if isinstance(value, Enum) else value])


def _indented(text: str) -> str:
    """Return JSON on several lines."""
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text

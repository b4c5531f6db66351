"""Relying parties in Apache: mod_auth_openidc, configured as its documentation says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.browser_node import BrowserNode
from tests.e2e.oauth import register
from tests.support.apache import Apache

REFRESH_ALWAYS = "OIDCRefreshAccessTokenBeforeExpiry 86400 logout_on_error"
"""Refreshes at each request: no access token lives as long."""


@dataclass(frozen=True)
class RelyingParty:
    """A site of Apache. It is the client `client_id` of a node."""

    url: str
    client_id: str

    @property
    def page(self) -> str:
        """The protected page."""
        return f"{self.url}/protected/"

    @property
    def callback(self) -> str:
        """The redirect URI, which also receives logouts."""
        return f"{self.url}/protected/callback"


@contextmanager
def relying_parties(
    node: BrowserNode, parties: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, RelyingParty]]:
    """Run a site for each name, with more directives."""
    apache = Apache(node.authority)
    made: dict[str, RelyingParty] = {}
    for name, directives in parties.items():
        party = RelyingParty(apache.site(), f"apache-{name}")
        made[name] = party
        fields: dict[str, Any] = {
            "client_name": f"Apache {name}",
            "grant_types": ["authorization_code", "refresh_token"],
            "redirect_uris": [party.callback, f"{party.url}/moved"],
            "post_logout_redirect_uris": [f"{party.url}/"],
            "backchannel_logout_uri": f"{party.callback}?logout=backchannel",
            "scopes": ["openid", "profile", "read"],
            "first_party": True,
        }
        client = register(node, party.client_id, "client_secret_basic", **fields)
        apache.configure(
            party.url,
            [
                f"OIDCProviderMetadataURL {node.issuer}/.well-known/openid-configuration",
                f"OIDCClientID {party.client_id}",
                'OIDCScope "openid profile read"',
                "OIDCRemoteUserClaim sub",
                f"OIDCClientSecret {client.secret}",
                "OIDCProviderTokenEndpointAuth client_secret_basic",
                *directives,
            ],
        )
    with apache:
        yield made

"""Registered OAuth clients. Fields that RFC 7591, 8705, 9126 or 9449 define have the names given there."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from token_service.core.policies.rights import Right

AUTHORIZATION_CODE: Final = "authorization_code"
REFRESH_TOKEN: Final = "refresh_token"
CLIENT_CREDENTIALS: Final = "client_credentials"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
GRANT_TYPES: Final = (
    AUTHORIZATION_CODE,
    REFRESH_TOKEN,
    CLIENT_CREDENTIALS,
    TOKEN_EXCHANGE,
    JWT_BEARER,
    DEVICE_CODE,
)
"""The grant types that a client may be registered for."""

MAX_LIVE_SECRETS: Final = 2
"""Secrets of a client that may be live at once: the current one and the one it replaces."""


class AuthMethod(StrEnum):
    """The method by which a client authenticates itself (RFC 7591, section 2; RFC 8705, section 2.1)."""

    NONE = "none"
    """A public client. It does not authenticate itself."""
    CLIENT_SECRET_BASIC = "client_secret_basic"
    PRIVATE_KEY_JWT = "private_key_jwt"
    TLS_CLIENT_AUTH = "tls_client_auth"


class SubjectType(StrEnum):
    """What the `sub` of the ID tokens of a client is (OpenID Connect Core 1.0, section 8)."""

    PUBLIC = "public"
    """The subject itself, the same for all clients."""
    PAIRWISE = "pairwise"
    """Another one for each sector, from which the subject can't be found."""


class SecurityProfile(StrEnum):
    """A set of rules that a client obeys besides those for all clients."""

    NONE = "none"
    FAPI2 = "fapi2"
    """The FAPI 2.0 Security Profile."""


class ClientState(StrEnum):
    """Whether a client may get tokens."""

    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"
    """Only the id remains, so that no other client ever gets it."""


class ClientSecret(Struct, frozen=True, kw_only=True, gc=False):
    """A secret of a client at rest. Times are in seconds since the Unix epoch."""

    secret_id: str
    """A random name for logs, without relation to the secret."""
    hash: bytes
    """SHA-256 of the text of the secret."""
    create_time: float
    expire_time: float | None = None
    """None: never."""
    last_use_time: float | None = None
    """None: never used. The registry in memory does not follow changes of this field."""

    def is_live(self, now: float) -> bool:
        """Tell whether the secret authenticates its client at `now`."""
        return self.expire_time is None or now < self.expire_time


class ClientMetadata(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The settings of a client that an administrator chooses. `validation` has their rules."""

    client_name: str = ""
    token_endpoint_auth_method: AuthMethod = AuthMethod.NONE
    jwks: str = ""
    """The public keys of a `private_key_jwt` client as the JSON text of a JWK Set (RFC 7517)."""
    jwks_uri: str = ""
    """URL of the keys, instead of `jwks`."""
    accepts_endpoint_audience: bool = False
    """Whether the `aud` of an assertion of the client may be the URL of the endpoint, besides the issuer."""
    tls_client_auth_san_uri: str = ""
    """URI in the certificate of a `tls_client_auth` client (RFC 8705, section 2.1.2)."""
    tls_client_auth_san_dns: str = ""
    """DNS name in the certificate, instead of a URI."""
    grant_types: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    """Scopes that the client may get. Empty: any."""
    audiences: tuple[str, ...] = ()
    """Audiences that the client may get tokens for. Empty: any."""
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str = ""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the HTTP endpoints for the client."""
    classification: str = ""
    """Security classification, which decides the policy. Empty: as in the policy file."""
    subject_type: SubjectType = SubjectType.PUBLIC
    sector_identifier_uri: str = ""
    """URI whose host is the sector of a client with pairwise subjects."""
    first_party: bool = False
    """Whether users need not be asked for their consent, because the client belongs to the operator."""
    dpop_bound_access_tokens: bool = False
    """Whether every access token must be bound to a key by DPoP (RFC 9449, section 5.2)."""
    tls_client_certificate_bound_access_tokens: bool = False
    """Whether every access token must be bound to the client certificate (RFC 8705, section 3.4)."""
    require_pushed_authorization_requests: bool = False
    """Whether /authorize accepts only requests that the client has pushed (RFC 9126, section 6)."""
    security_profile: SecurityProfile = SecurityProfile.NONE
    rights: tuple[Right, ...] = ()
    """Rights of the client as a caller, besides refreshing and revoking its own tokens."""


class Client(ClientMetadata, frozen=True, kw_only=True, gc=False):
    """A registered client. Times are in seconds since the Unix epoch."""

    client_id: str
    secrets: tuple[ClientSecret, ...] = ()
    """Secrets that are not replaced yet, oldest first."""
    state: ClientState = ClientState.ACTIVE
    create_time: float
    update_time: float
    revision: int = 0
    """The revision of the registry at which the client changed last. The etag is its text."""

    @property
    def etag(self) -> str:
        """The version of the record, for compare-and-set updates."""
        return str(self.revision)

    @property
    def describes_itself(self) -> bool:
        """Whether a metadata document describes the client, not the registry, whose revisions begin with 1."""
        return self.revision == 0

    def live_secrets(self, now: float) -> tuple[ClientSecret, ...]:
        """Return the secrets that authenticate the client at `now`."""
        return tuple(secret for secret in self.secrets if secret.is_live(now))


METADATA_FIELDS: Final = ClientMetadata.__struct_fields__
"""Names of the fields that an administrator sets."""


def metadata_of(client: ClientMetadata) -> ClientMetadata:
    """Return the metadata of a client without its record."""
    return ClientMetadata(**{name: getattr(client, name) for name in METADATA_FIELDS})

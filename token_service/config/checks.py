"""Checks between settings: contradictions, and values that are unsafe in a profile."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from token_service.config.setting import PREFIX
from token_service.config.settings import Settings
from token_service.config.values import Address, UnixSocket
from token_service.core.clients.client import SecurityProfile
from token_service.core.clients.profile import FAPI_ALGORITHMS
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, Algorithm

_SAFE = ", ".join(algorithm.value for algorithm in PUBLIC_KEY_ALGORITHMS)


def contradictions(settings: Settings) -> Iterator[str]:
    """Yield a problem for each combination of settings that excludes itself, in any profile."""
    if settings.key_encryption_key and settings.sources["key_encryption_key_file"] != "default":
        yield (
            f"{PREFIX}KEY_ENCRYPTION_KEY and {PREFIX}KEY_ENCRYPTION_KEY_FILE are both set; allowed: one of the two. "
            "To change the key, put both keys into the same setting, the new key first"
        )
    if settings.audit_key and settings.sources["audit_key_file"] != "default":
        yield (
            f"{PREFIX}AUDIT_KEY and {PREFIX}AUDIT_KEY_FILE are both set; allowed: one of the two. "
            "To change the key, put both keys into the same setting, the new key first"
        )
    if settings.pairwise_key is not None and settings.pairwise_key_file is not None:
        yield f"{PREFIX}PAIRWISE_KEY and {PREFIX}PAIRWISE_KEY_FILE are both set; allowed: one of the two"
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        yield f"{PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE are not both set; allowed: both or neither"
    if settings.tls_client_ca_file is not None and settings.tls_cert_file is None:
        yield f"{PREFIX}TLS_CLIENT_CA_FILE is set without a server certificate; set {PREFIX}TLS_CERT_FILE, too"
    if settings.http_tls and settings.tls_cert_file is None:
        yield f"{PREFIX}HTTP_TLS is true without a server certificate; set {PREFIX}TLS_CERT_FILE, too"
    if settings.proxy_client_cert and not settings.trusted_proxies:
        yield f"{PREFIX}PROXY_CLIENT_CERT is true without proxies; set {PREFIX}TRUSTED_PROXIES, too"
    if settings.proxy_client_cert and settings.tls_client_ca_file is None:
        yield (
            f"{PREFIX}PROXY_CLIENT_CERT is true without authorities that verify the certificates; "
            f"set {PREFIX}TLS_CLIENT_CA_FILE, too"
        )
    if settings.signing_algorithm is Algorithm.HS256 and not settings.allow_hs256:
        yield (
            f"{PREFIX}SIGNING_ALGORITHM is HS256, which would let every validator make tokens; allowed: "
            f"{_SAFE}. For a closed deployment set {PREFIX}ALLOW_HS256=true, too"
        )
    if settings.pkcs11_module is not None and settings.pkcs11_pin is None:
        yield f"{PREFIX}PKCS11_MODULE is set without a PIN; set {PREFIX}PKCS11_PIN_FILE or {PREFIX}PKCS11_PIN, too"
    if settings.pkcs11_module is not None and settings.signing_algorithm is Algorithm.HS256:
        yield f"{PREFIX}SIGNING_ALGORITHM is HS256, whose keys can't be kept in an HSM; allowed: {_SAFE}"
    if (
        settings.minimum_security_profile is SecurityProfile.FAPI2
        and settings.signing_algorithm not in FAPI_ALGORITHMS
    ):
        yield (
            f"{PREFIX}MINIMUM_SECURITY_PROFILE is fapi2, which does not allow tokens that are signed with "
            f"{settings.signing_algorithm.value}; set {PREFIX}SIGNING_ALGORITHM to {', '.join(FAPI_ALGORITHMS)}"
        )
    if not settings.client_metadata_documents:
        for each in ("hosts", "scopes", "classification"):
            name = f"client_metadata_document_{each}"
            if getattr(settings, name):
                yield f"{PREFIX}{name.upper()} is set without {PREFIX}CLIENT_METADATA_DOCUMENTS=true; set both or neither"
    if isinstance(settings.grpc_address, UnixSocket) and settings.workers > 1:
        yield (
            f"{PREFIX}GRPC_ADDRESS is {settings.grpc_address}, which workers can't share; "
            f"set {PREFIX}WORKERS=1, or {PREFIX}GRPC_ADDRESS to `host:port`"
        )
    yield from _redis(settings)
    for (name, address), (other_name, other) in combinations(settings.addresses, 2):
        if address == other and isinstance(address, Address) and address.port:
            yield f"{PREFIX}{name} and {PREFIX}{other_name} are both {address}; allowed: two ports"


def _redis(settings: Settings) -> Iterator[str]:
    url = settings.redis_url
    files = {
        "REDIS_TLS_CA_FILE": settings.redis_tls_ca_file,
        "REDIS_TLS_CERT_FILE": settings.redis_tls_cert_file,
        "REDIS_TLS_KEY_FILE": settings.redis_tls_key_file,
    }
    given = [PREFIX + name for name, path in files.items() if path is not None]
    if given and (url is None or not url.tls):
        yield f"{', '.join(given)}: {PREFIX}REDIS_URL is {url or 'not set'}, without TLS; write it with rediss"
    if (settings.redis_tls_cert_file is None) != (settings.redis_tls_key_file is None):
        yield f"{PREFIX}REDIS_TLS_CERT_FILE and {PREFIX}REDIS_TLS_KEY_FILE are not both set; allowed: both or neither"
    if settings.redis_password is not None and url is None:
        yield f"{PREFIX}REDIS_PASSWORD is set without {PREFIX}REDIS_URL; set both or neither"
    if settings.redis_password is not None and url is not None and url.has_password:
        yield f"{PREFIX}REDIS_URL has a password, and {PREFIX}REDIS_PASSWORD is set, too; allowed: one of the two"


def unsafe(settings: Settings) -> Iterator[str]:
    """Yield a problem for each setting that is unsafe in the profile."""
    if not settings.is_production:
        for name, address in settings.addresses:
            if isinstance(address, Address) and not address.is_loopback:
                yield (
                    f"{PREFIX}{name} is {address}, but the development profile trusts every caller and listens on loopback "
                    f"only; set {PREFIX}{name}=127.0.0.1:{address.port}, or {PREFIX}PROFILE=production"
                )
        return
    missing = [
        f"{PREFIX}{name}"
        for name, value in (
            ("TLS_CERT_FILE", settings.tls_cert_file),
            ("TLS_KEY_FILE", settings.tls_key_file),
            ("TLS_CLIENT_CA_FILE", settings.tls_client_ca_file),
        )
        if value is None
    ]
    if missing:
        yield f"{PREFIX}PROFILE is production, where callers identify themselves by a certificate; set {', '.join(missing)}"
    if not settings.http_tls and not settings.trusted_proxies:
        yield (
            f"{PREFIX}PROFILE is production, where clients send secrets over HTTP with TLS only; set {PREFIX}HTTP_TLS=true, "
            f"or {PREFIX}TRUSTED_PROXIES to the addresses of the proxies that serve the issuer URL with TLS"
        )
    if not settings.key_encryption_key and settings.sources["key_encryption_key_file"] == "default":
        yield (
            f"{PREFIX}PROFILE is production, where the key-encryption key is not generated; set "
            f"{PREFIX}KEY_ENCRYPTION_KEY_FILE or {PREFIX}KEY_ENCRYPTION_KEY (`openssl rand -base64 32`)"
        )
    if not settings.audit_key and settings.sources["audit_key_file"] == "default":
        yield (
            f"{PREFIX}PROFILE is production, where the key of the audit trail is not generated; make one with "
            f"`openssl rand -base64 32 > audit.key && chmod 600 audit.key`, give it to all nodes, and set "
            f"{PREFIX}AUDIT_KEY_FILE or {PREFIX}AUDIT_KEY"
        )
    if settings.sources["database_url"] == "default":
        yield f"{PREFIX}PROFILE is production, where the database is not a file in the data directory; set {PREFIX}DATABASE_URL"
    elif settings.uses_sqlite and settings.redis_url is not None:
        yield (
            f"{PREFIX}DATABASE_URL is SQLite, which nodes can't share, but {PREFIX}REDIS_URL is useful only for several "
            f"nodes; set {PREFIX}DATABASE_URL=postgresql://…, or unset {PREFIX}REDIS_URL"
        )
    if settings.sources["issuer"] == "default":
        yield f"{PREFIX}PROFILE is production; set {PREFIX}ISSUER to the https URL that tokens must contain as `iss`"
    elif not settings.issuer.startswith("https://"):
        yield f"{PREFIX}ISSUER is {settings.issuer}; allowed in production: an https URL"

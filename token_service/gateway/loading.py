"""Reads `gateway.toml` and makes the parts of a gateway from it."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from token_service.client._internal.clock import SystemValidatorClock, ValidatorClock
from token_service.client._internal.credentials import CredentialFiles
from token_service.client._internal.http_refusals import Challenger
from token_service.client.config import (
    ForeignIssuer,
    Freshness,
    ServiceIssuer,
    ValidatorConfig,
    WhenStale,
)
from token_service.client.resource_metadata import ResourceMetadata
from token_service.client.validator import TokenValidator
from token_service.errors import ConfigurationError
from token_service.files import read_regular
from token_service.gateway.certificates import Certificates
from token_service.gateway.checker import Checker, CheckLimits, Possession
from token_service.gateway.ext_authz import ExtAuthz
from token_service.gateway.http import Auth, Metadata
from token_service.gateway.identity import Identity
from token_service.gateway.routes import KEYS, Rules
from token_service.gateway.settings import Issuer, Resource, Settings
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, Algorithm
from token_service.tokens.claims import TokenKind
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.possession import PossessionChecker
from token_service.tokens.secret import Secret

_MAX_FILE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that was read and checked."""

    settings: Settings
    digest: bytes
    """Of the file and of the key file it names, to notice a change."""
    nonces: DpopNonces | None
    rules: Rules
    validator: ValidatorConfig


def load(path: Path) -> Loaded:
    """Read and check a file. Raises `ConfigurationError`."""
    content = _read(path)
    try:
        settings = msgspec.convert(
            tomllib.loads(content.decode()), Settings, dec_hook=lambda _type, value: path.parent / value
        )
    except (ValueError, UnicodeDecodeError) as error:  # of tomllib and msgspec, too
        raise ConfigurationError(f"{path}: {error}") from None
    keys = _read(settings.proofs.nonce_keys) if settings.proofs.nonce_keys is not None else b""
    try:
        _check(settings)
        return Loaded(
            settings,
            hashlib.sha256(hashlib.sha256(content).digest() + keys).digest(),
            _nonces(keys) if settings.proofs.nonce_keys is not None else None,
            Rules(settings.routes, _issuers(settings)),
            _validator(settings),
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}") from None


@dataclass(slots=True)
class Parts:
    """The parts of a gateway for one configuration."""

    loaded: Loaded
    validator: TokenValidator
    checker: Checker
    identity: Identity
    ext_authz: ExtAuthz
    auth: Auth
    metadata: Metadata | None


def build(
    loaded: Loaded,
    validator: TokenValidator,
    possession: PossessionChecker,
    clock: ValidatorClock | None = None,
) -> Parts:
    """Make the parts. They do no I/O."""
    settings = loaded.settings
    proofs, limits, identity_settings = settings.proofs, settings.limits, settings.identity
    certificates = Certificates(proofs.client_certificate, proofs.certificate_header)
    possession_rules = Possession(
        checker=possession, certificates=certificates, origin=proofs.origin, trust_host=proofs.trust_host
    )
    metadata = _metadata(settings.resource, settings) if settings.resource is not None else None
    checker = Checker(
        validator,
        clock or SystemValidatorClock(),
        loaded.rules,
        Challenger(
            realm=settings.responses.realm,
            resource_metadata=_metadata_url(settings.resource, metadata),
            accepts_dpop=possession_rules.accepts_dpop,
        ),
        possession_rules,
        CheckLimits(
            deadline=limits.deadline,
            concurrent=limits.concurrent_checks,
            allow_second_readings=settings.paths.allow_second_readings,
        ),
    )
    identity = Identity(
        with_claims=identity_settings.claims, claims_max_bytes=identity_settings.claims_max_bytes
    )
    return Parts(
        loaded,
        validator,
        checker,
        identity,
        ExtAuthz(
            checker,
            identity,
            certificates,
            unavailable=settings.responses.envoy_unavailable,
            remove_credentials=identity_settings.remove_credentials,
        ),
        Auth(checker, identity, certificates, settings.http, settings.responses),
        Metadata(metadata.path, metadata.document(accepts_dpop=possession_rules.accepts_dpop))
        if metadata is not None
        else None,
    )


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MAX_FILE)
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror}") from None


def _check(settings: Settings) -> None:
    if not (settings.listen.grpc or settings.listen.http):
        raise ConfigurationError("listen has neither `grpc` nor `http`; set one of them")
    if settings.tokens.audience is None and not settings.tokens.any_audience:
        raise ConfigurationError("tokens.audience is missing; set it, or `any_audience = true`")
    if settings.tokens.audience is not None and settings.tokens.any_audience:
        raise ConfigurationError("tokens.audience and `any_audience = true` contradict each other")
    unknown = settings.http.requirement_headers.keys() - KEYS
    if unknown:
        raise ConfigurationError(
            f"http.requirement_headers: {min(unknown)!r} is no key; known are {', '.join(sorted(KEYS))}"
        )
    proofs = settings.proofs
    if proofs.client_certificate == "escaped-pem" and proofs.certificate_header is None:
        raise ConfigurationError("proofs.client_certificate = 'escaped-pem' needs certificate_header")
    if proofs.client_certificate in {"connection", "none"} and proofs.certificate_header is not None:
        raise ConfigurationError(
            "proofs.certificate_header has no use with this client_certificate; remove it"
        )
    if proofs.origin:
        parts = urlsplit(proofs.origin)
        if parts.scheme not in {"http", "https"} or proofs.origin != f"{parts.scheme}://{parts.netloc}":
            raise ConfigurationError("proofs.origin must be a scheme and a host, e.g. https://api.example")
    if proofs.origin and proofs.trust_host:
        raise ConfigurationError("proofs.origin and `trust_host = true` contradict each other")
    if proofs.nonce_keys is not None and not (proofs.origin or proofs.trust_host):
        raise ConfigurationError("proofs.nonce_keys is for DPoP proofs; set proofs.origin, too")
    if settings.resource is not None:
        if urlsplit(settings.resource.resource).scheme != "https":
            raise ConfigurationError("resource.resource must be an https URL (RFC 9728, section 1.2)")
        _metadata(settings.resource, settings)
    for name in ("realm",):
        value = getattr(settings.responses, name)
        if not value.isascii() or not (value + "x").isprintable() or '"' in value or "\\" in value:
            raise ConfigurationError(
                f"responses.{name} must be printable ASCII without quotes and backslashes"
            )


def _issuers(settings: Settings) -> Collection[str]:
    own = [settings.issuer.issuer] if settings.issuer is not None else []
    return own + [each.issuer for each in settings.foreign_issuers]


def _algorithms(names: Collection[str]) -> frozenset[Algorithm]:
    if not names:
        return frozenset(PUBLIC_KEY_ALGORITHMS)
    try:
        return frozenset(Algorithm(name) for name in names)
    except ValueError as error:
        raise ConfigurationError(f"algorithms: {error}; known are {', '.join(Algorithm)}") from None


def _validator(settings: Settings) -> ValidatorConfig:
    issuers: list[ServiceIssuer | ForeignIssuer] = []
    if settings.issuer is not None:
        issuers.append(_service_issuer(settings.issuer))
    issuers += [
        ForeignIssuer(
            issuer=each.issuer,
            jwks_url=each.jwks_url,
            algorithms=_algorithms(each.algorithms),
            plain_kind=TokenKind.ACCESS if each.plain_type_is_access else TokenKind.ID,
            typ_required=each.type_required,
            refresh_interval=each.refresh_interval,
        )
        for each in settings.foreign_issuers
    ]
    return ValidatorConfig(
        issuers=issuers,
        audience=settings.tokens.audience,
        leeway=settings.tokens.leeway,
        cache_capacity=settings.tokens.cache_capacity,
    )


def _service_issuer(issuer: Issuer) -> ServiceIssuer:
    has_files = issuer.roots is not None or issuer.certificate_chain is not None
    bound = issuer.freshness_bound
    return ServiceIssuer(
        issuer=issuer.issuer,
        target=issuer.target,
        server_name=issuer.server_name,
        credentials=CredentialFiles(
            roots=issuer.roots,
            certificate_chain=issuer.certificate_chain,
            private_key=issuer.private_key,
        )
        if has_files
        else None,
        subscriber_id=issuer.subscriber_id,
        algorithms=_algorithms(issuer.algorithms),
        freshness=Freshness(
            bound=bound,
            probe_timeout=min(1.5, bound),
            when_stale=(WhenStale.REMOTE, WhenStale.REJECT) if issuer.ask_when_stale else (WhenStale.REJECT,),
        ),
        remote_timeout=issuer.remote_timeout,
    )


def _metadata_url(resource: Resource | None, metadata: ResourceMetadata | None) -> str:
    if resource is None or metadata is None:
        return ""
    return resource.metadata_url or metadata.url


def _nonces(content: bytes) -> DpopNonces:
    try:
        keys = [Secret(bytes.fromhex(line)) for line in content.decode("ascii").split()]
        return DpopNonces(keys)
    except ValueError:
        raise ConfigurationError(
            "proofs.nonce_keys must name a file with at least one key of 32 bytes, in hexadecimal digits, one per line;"
            " make one with `openssl rand -hex 32`"
        ) from None


def _metadata(resource: Resource, settings: Settings) -> ResourceMetadata:
    return ResourceMetadata(
        resource=resource.resource,
        authorization_servers=resource.authorization_servers or _issuers(settings),
        scopes=resource.scopes_supported,
        name=resource.name,
        documentation=resource.documentation,
    )

"""Adapters chosen by the settings, and a core built on them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from token_service.app.core import Core, CoreOptions, Ports, build_core
from token_service.clock import SystemClock
from token_service.config import Settings, load_audit_keys, load_key_encryption_keys, load_pairwise_key
from token_service.core.access.counters import SharedCounters
from token_service.core.clients.documents import DocumentRules
from token_service.core.events.audit import Audit
from token_service.core.events.chain import AuditKeys
from token_service.core.events.keeper import KeeperRules
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.logout.delivering import Outcome
from token_service.core.policies.policy import Policies
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.revocation.mirror import RevocationMirror
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.fetching.client_documents import ClientDocuments
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.logouts import LogoutPosts
from token_service.fetching.sector_documents import FetchedSectors
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.signers.local import LocalKeys
from token_service.signers.providers import SigningProviders
from token_service.stores.sql.stores import SqlStores
from token_service.tokens.algorithms import Algorithm
from token_service.urls import Url

if TYPE_CHECKING:
    from token_service.stores.redis.counters import RedisCounters
    from token_service.stores.redis.mirror import RedisMirror

logger = logging.getLogger(__name__)


def new_node_id() -> str:
    """Return a unique name for this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def open_stores(
    settings: Settings, audit_keys: AuditKeys | None = None, node_id: str | None = None
) -> SqlStores:
    """Return the stores of the configured database, without I/O. Raises `ConfigurationError`.

    Without `audit_keys` they make no change that is an audit event.
    """
    return SqlStores(
        settings.database_url.text,
        pool_size=settings.database_pool_size,
        audit_keys=audit_keys,
        node_id=node_id or new_node_id(),
    )


async def audit_keys_of(settings: Settings) -> AuditKeys:
    """Read the keys of the audit trail. Raises `ConfigurationError`."""
    return AuditKeys(await asyncio.to_thread(load_audit_keys, settings))


@asynccontextmanager
async def open_core(
    settings: Settings,
    stores: SqlStores,
    audit: Audit,
    node_id: str,
    *,
    policies: Policies,
    mirror: RevocationMirror | None = None,
    counters: SharedCounters | None = None,
    rate_limited: Callable[[Operation, Bucket], None] | None = None,
    logout_counted: Callable[[Outcome], None] | None = None,
    needs_module: bool = True,
) -> AsyncIterator[Core]:
    """Build a core on the adapters of these settings, with access to its private keys.

    Without `needs_module` an unavailable HSM only logs a warning. Raises `ConfigurationError` and
    `SigningUnavailableError`.
    """
    wrap = AesGcmKeyWrap(await asyncio.to_thread(load_key_encryption_keys, settings))
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(LocalKeys(rsa_bits=settings.signing_rsa_bits))
        module = pkcs11_keys(settings)
        if module is not None:
            try:
                await stack.enter_async_context(module)
            except SigningUnavailableError as error:
                if needs_module:
                    raise
                logger.warning("%s", error.message)
        ports = Ports(
            stores=stores,
            key_provider=SigningProviders(local, module),
            wrap=wrap,
            clock=SystemClock(),
            entropy=secrets.token_bytes,
            audit=audit,
            mirror=mirror,
            counters=counters,
            rate_limited=rate_limited,
            send_logout=LogoutPosts(allow_private=settings.allow_private_logout_uri).send,
            logout_counted=logout_counted or (lambda _: None),
            pairwise_key=await asyncio.to_thread(load_pairwise_key, settings),
            sector_documents=sector_documents(settings),
            client_documents=ClientDocuments(HttpFetcher()) if settings.client_metadata_documents else None,
        )
        yield build_core(ports, core_options(settings, node_id), policies)


def sector_documents(settings: Settings) -> FetchedSectors:
    """Return the documents of sectors, fetched from their URLs."""
    return FetchedSectors(HttpFetcher(), FetchRules(allow_private=settings.allow_private_jwks_uri))


def core_options(settings: Settings, node_id: str) -> CoreOptions:
    """Return the settings that the use cases need."""
    return CoreOptions(
        node_id=node_id,
        issuer=settings.issuer,
        rotation=RotationRules(
            settings.signing_algorithm, settings.key_rotation_period, settings.key_announce_time
        ),
        accepted=_accepted(settings),
        key_check_interval=settings.key_check_interval,
        poll_interval=settings.replica_poll_interval,
        max_staleness=settings.replica_max_age,
        max_revocations=settings.max_revocations_per_caller,
        require_registered_clients=settings.require_registered_clients,
        client_documents=DocumentRules(
            settings.client_metadata_document_hosts,
            settings.client_metadata_document_scopes,
            settings.client_metadata_document_classification,
        ),
        janitor_interval=settings.janitor_interval,
        signing_may_fail=settings.pkcs11_module is not None,
        audit=KeeperRules(settings.audit_checkpoint_interval, settings.audit_retention),
    )


def _accepted(settings: Settings) -> frozenset[Algorithm]:
    """Return the accepted algorithms: all asymmetric ones, so that a change between these invalidates no token."""
    accepted = {Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA}
    if settings.allow_hs256:
        accepted.add(Algorithm.HS256)
    return frozenset(accepted)


def pkcs11_keys(settings: Settings) -> Pkcs11Keys | None:
    """Return the keys in the configured HSM; None without an HSM."""
    if settings.pkcs11_module is None or settings.pkcs11_pin is None:
        return None
    return Pkcs11Keys(
        str(settings.pkcs11_module),
        settings.pkcs11_token,
        settings.pkcs11_pin,
        rsa_bits=settings.signing_rsa_bits,
    )


def redis_adapters(url: Url) -> tuple[RedisMirror, RedisCounters]:
    """Return the mirror and the counters in Redis. Raises `ConfigurationError` for a URL that the driver refuses."""
    from token_service.stores.redis.counters import RedisCounters
    from token_service.stores.redis.mirror import RedisMirror

    try:
        return RedisMirror(url.reveal()), RedisCounters(url.reveal())
    except (ValueError, TypeError):  # the text of the error may repeat a part of the URL
        raise ConfigurationError(f"TOKEN_SERVICE_REDIS_URL: {url} has an option that can't be used") from None

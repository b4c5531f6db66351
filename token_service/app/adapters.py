"""Adapters chosen by the settings, and a core built on them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from token_service import __version__
from token_service.app.core import Core, build_core
from token_service.app.metering.counting import PortCounts
from token_service.app.ports import CoreOptions, EventPushes, NodeFiles, Ports, WebhookPorts
from token_service.clock import SystemClock
from token_service.config import Settings, load_audit_keys, load_key_encryption_keys, load_pairwise_key
from token_service.core.access.counters import SharedCounters
from token_service.core.clients.documents import DocumentRules
from token_service.core.events.audit import Audit
from token_service.core.events.chain import AuditKeys
from token_service.core.events.keeper import KeeperRules
from token_service.core.events.webhooks.schedule import RetryRules
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.policies.policies import Policies
from token_service.core.reports.cluster.description import Identity
from token_service.core.revocation.mirror import RevocationMirror
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.fetching.client_documents import ClientDocuments
from token_service.fetching.event_pushes import HttpPushes
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.logouts import LogoutPosts
from token_service.fetching.sector_documents import FetchedSectors
from token_service.fetching.webhooks import WebhookPosts
from token_service.randomness import random_bytes
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.signers.local import LocalKeys
from token_service.signers.metered import MeteredProviders
from token_service.signers.providers import SigningProviders
from token_service.stores.sql import migrations
from token_service.stores.sql.stores import SqlStores
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, Algorithm

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
        load_wrap=partial(key_wrap_of, settings),
    )


async def key_wrap_of(settings: Settings) -> AesGcmKeyWrap:
    """Read the key-encryption keys. Raises `ConfigurationError`."""
    return AesGcmKeyWrap(await asyncio.to_thread(load_key_encryption_keys, settings))


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
    counts: PortCounts | None = None,
    needs_module: bool = True,
    files: NodeFiles | None = None,
) -> AsyncIterator[Core]:
    """Build a core on the adapters of these settings, with access to its private keys.

    Without `needs_module` an unavailable HSM only logs a warning. Raises `ConfigurationError` and
    `SigningUnavailableError`.
    """
    counts = counts or PortCounts()
    pushes = HttpPushes(allow_private=settings.allow_private_event_receivers)
    wrap = await key_wrap_of(settings)
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
        providers = SigningProviders(local, module)
        ports = Ports(
            stores=stores,
            key_provider=providers
            if counts.signatures is None
            else MeteredProviders(providers, counts.signatures),
            wrap=wrap,
            clock=SystemClock(),
            entropy=random_bytes,
            audit=audit,
            mirror=mirror,
            counters=counters,
            rate_limited=counts.rate_limited,
            rate_admitted=counts.rate_admitted,
            send_logout=LogoutPosts(allow_private=settings.allow_private_logout_uri).send,
            logout_counted=counts.logout_counted or (lambda _: None),
            webhooks=webhook_ports(settings, counts),
            pairwise_key=await asyncio.to_thread(load_pairwise_key, settings),
            sector_documents=sector_documents(settings),
            client_documents=ClientDocuments(HttpFetcher()) if settings.client_metadata_documents else None,
            event_pushes=EventPushes(pushes.send, pushes.problem_of_url),
            events_counted=counts.events_counted or (lambda _outcome, _count: None),
            event_stream_paused=counts.event_stream_paused or (lambda _: None),
            files=files or NodeFiles(),
        )
        yield build_core(ports, core_options(settings, node_id), policies)


def webhook_ports(settings: Settings, counts: PortCounts) -> WebhookPorts:
    """Return how webhooks are reached."""
    posts = WebhookPosts(allow_private=settings.allow_private_webhook_url)
    return WebhookPorts(
        send=posts.send,
        problem_of_url=posts.problem_of_url,
        counted=counts.webhook_counted or (lambda _: None),
    )


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
        accepts_loss=settings.lossy_failover == "continue",
        max_revocations=settings.max_revocations_per_caller,
        require_registered_clients=settings.require_registered_clients,
        security_profile=settings.minimum_security_profile,
        client_documents=DocumentRules(
            settings.client_metadata_document_hosts,
            settings.client_metadata_document_scopes,
            settings.client_metadata_document_classification,
            settings.minimum_security_profile,
        ),
        janitor_interval=settings.janitor_interval,
        signing_may_fail=settings.pkcs11_module is not None,
        audit=keeper_rules(settings),
        webhook_retries=RetryRules(attempts=settings.webhook_attempts, span=settings.webhook_retry_time),
        identity=Identity(f"{socket.gethostname()}:{os.getpid()}", __version__, migrations.HEAD),
    )


def keeper_rules(settings: Settings) -> KeeperRules:
    """Return the times that the audit trail and the event log are kept by."""
    return KeeperRules(settings.audit_checkpoint_interval, settings.audit_retention, settings.event_retention)


def _accepted(settings: Settings) -> frozenset[Algorithm]:
    """Return the accepted algorithms: all asymmetric ones, so that a change between these invalidates no token."""
    accepted: set[Algorithm] = set(PUBLIC_KEY_ALGORITHMS)
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


def redis_adapters(settings: Settings) -> tuple[RedisMirror, RedisCounters] | None:
    """Return the mirror and the counters in Redis; None without Redis.

    Raises `ConfigurationError` for a URL that the driver refuses, and for unusable files.
    """
    if settings.redis_url is None:
        return None
    from token_service.redis_clients import RedisAccess, RedisTls
    from token_service.stores.redis.counters import RedisCounters
    from token_service.stores.redis.mirror import RedisMirror

    tls = RedisTls(settings.redis_tls_ca_file, settings.redis_tls_cert_file, settings.redis_tls_key_file)
    password = settings.redis_password
    access = RedisAccess(settings.redis_url, None if password is None else password.reveal().decode(), tls)
    try:
        return RedisMirror(access), RedisCounters(access)
    except ConfigurationError as error:
        raise ConfigurationError(f"TOKEN_SERVICE_REDIS_URL: {error.message}") from None

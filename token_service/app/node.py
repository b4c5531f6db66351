"""The composition root: everything a node is made of, put together in one place."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.x509 import Certificate

from token_service.clock import SystemClock
from token_service.config import (
    Address,
    Settings,
    UnixSocket,
    Url,
    load_key_encryption_keys,
    prepare_data_dir,
    refusal,
)
from token_service.config.descriptors import raise_descriptor_limit, share_connections
from token_service.config.policy_file import PolicyDocument, PolicyFile
from token_service.core.access.caller import Caller
from token_service.core.access.quotas import RateQuota
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.minter import Minter
from token_service.core.issuing.refresher import Refresher
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.manager import KeyManager
from token_service.core.maintenance.janitor import Janitor
from token_service.core.policies.policy import Policies
from token_service.core.revocation.failover_log import FailoverLog
from token_service.core.revocation.key_revocation import KeyRevocation
from token_service.core.revocation.log import RevocationDraft, RevocationLog
from token_service.core.revocation.mirroring import Mirroring
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revoker import Revoker, carry_out
from token_service.core.revocation.steady_time import SteadyTime
from token_service.core.revocation.tailer import Tailer
from token_service.core.sessions.browsing import Sessions
from token_service.core.subscribers.registry import Validators
from token_service.core.validation.introspector import Introspector
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.listening import bind_all
from token_service.rpc.server.authorizer import CertificateAuthorizer, TrustingAuthorizer
from token_service.rpc.server.client_authorities import ClientAuthorities
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.server.server import GrpcServer, TlsFiles
from token_service.rpc.server.tls import ReloadingCredentials
from token_service.rpc.server.unix_socket import UnixSocketPath
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.signers.local import LocalKeys
from token_service.signers.providers import SigningProviders
from token_service.stores.sql.stores import SqlStores
from token_service.telemetry import Audit, Metrics, find_exporters
from token_service.tokens import strict_json
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import Cursor
from token_service.tokens.verifier import IssuerRules, Verifier
from token_service.web.connections import ConnectionLimits
from token_service.web.server import HttpServer, bind as bind_http

if TYPE_CHECKING:
    from token_service.stores.redis.mirror import RedisMirror

_SESSION_RETENTION = 7 * 24 * 3600
"""Seconds an ended session stays visible to GetSession and ListSessions."""

_M_MMAP_THRESHOLD = -3
"""From malloc.h."""
_LARGE_BLOCK = 128 * 1024
_KILL_AFTER = 5.0
"""Seconds beyond the grace until a process that does not stop is ended."""

logger = logging.getLogger(__name__)

Ready = Callable[[str, str], None]
"""`ready(grpc_address, http_address)`, as they were bound."""


async def serve(settings: Settings, ready: Ready, environ: Mapping[str, str] = os.environ) -> None:
    """Run one node until SIGTERM or SIGINT, then stop in order: refuse new calls, finish running ones, end
    streams.

    Raises `ConfigurationError` for what is wrong with the surroundings, and whatever makes a background task
    fail.
    """
    stop = asyncio.Event()
    starting = asyncio.current_task()
    assert starting is not None

    def heed() -> None:
        if stop.is_set():
            logger.error("a second signal: ending at once")
            os._exit(1)
        stop.set()
        _end_late(settings.shutdown_grace + _KILL_AFTER)
        if is_starting:
            # Whatever it waits for, such as a database or the migration of another node.
            starting.cancel()

    is_starting = True
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heed)
    try:
        async with node(settings, environ) as (grpc_address, http_address):
            is_starting = False
            _settle_memory()
            ready(grpc_address, http_address)
            await stop.wait()
            logger.info("stopping")
    except asyncio.CancelledError:
        if not (is_starting and stop.is_set()):
            raise
        starting.uncancel()
        logger.info("stopped before the start was complete")
    except ExceptionGroup as failures:
        # A node runs in a task group; what ended it is one of its tasks, or its start.
        if len(failures.exceptions) > 1:
            raise
        raise failures.exceptions[0] from None


def _end_late(seconds: float) -> None:
    """End this process if it is still there after so many seconds, whatever holds it."""

    def end() -> None:
        logger.error("not stopped within %g s; ending at once", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


async def migrate(settings: Settings) -> str:
    """Bring the database to the current schema; its revision."""
    await asyncio.to_thread(prepare_data_dir, settings.data_dir)
    async with SqlStores(settings.database_url.reveal()) as stores:
        return await stores.migrate()


@dataclass(frozen=True, slots=True)
class Keys:
    """What it takes to look at the keys and to change them."""

    keyring: Keyring
    manager: KeyManager
    validators: Validators
    log: RevocationLog
    audit: Audit

    async def revoke(self, key_id: str, now: float, comment: str) -> Cursor:
        """Revoke a key without a node. Returns a place in the log that is not before its entry.

        Raises `KeyNotFoundError`, `InvalidRequestError` and `StoreUnavailableError`.
        """

        async def append(drafts: Sequence[RevocationDraft]) -> Cursor:
            head, _ = await self.log.append(drafts)
            return Cursor(head.epoch, head.sequence)

        revocation = KeyRevocation(
            self.keyring, lambda draft: carry_out(draft, append, self.manager, self.audit)
        )
        return (await revocation.revoke(Caller.system(), key_id, comment, now)).cursor


@asynccontextmanager
async def administer_keys(settings: Settings) -> AsyncIterator[Keys]:
    """The keys of the database, loaded, for a command that changes them.

    Running nodes take a change up by themselves.

    An HSM that is away hinders only what needs it.
    """
    async with SqlStores(settings.database_url.reveal()) as stores:
        await stores.require_current()
        async with _keys(settings, stores, Audit(), _node_id(), needs_module=False) as keys:
            await keys.keyring.refresh()
            yield keys


@asynccontextmanager
async def _keys(
    settings: Settings, stores: SqlStores, audit: Audit, node_id: str, *, needs_module: bool = True
) -> AsyncIterator[Keys]:
    clock = SystemClock()
    wrap = AesGcmKeyWrap(await asyncio.to_thread(load_key_encryption_keys, settings))
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(LocalKeys(rsa_bits=settings.signing_rsa_bits))
        module = _pkcs11_keys(settings)
        if module is not None:
            try:
                await stack.enter_async_context(module)
            except SigningUnavailableError as error:
                if needs_module:
                    raise
                logger.warning("%s", error.message)
        providers = SigningProviders(local, module)
        validators = Validators(node_id, stores.nodes, clock)
        keyring = Keyring(stores.keys, wrap, settings.signing_algorithm, open_signer=providers.open_signer)
        manager = KeyManager(
            stores.keys,
            keyring,
            wrap,
            stores.leases,
            validators,
            clock,
            audit,
            RotationRules(
                settings.signing_algorithm, settings.key_rotation_period, settings.key_announce_time
            ),
            node_id=node_id,
            generate=providers.generate,
            entropy=secrets.token_bytes,
            interval=settings.key_check_interval,
            destroy=providers.destroy,
        )
        yield Keys(keyring, manager, validators, stores.log, audit)


def _pkcs11_keys(settings: Settings) -> Pkcs11Keys | None:
    if settings.pkcs11_module is None or settings.pkcs11_pin is None:
        return None
    return Pkcs11Keys(
        str(settings.pkcs11_module),
        settings.pkcs11_token,
        settings.pkcs11_pin,
        rsa_bits=settings.signing_rsa_bits,
    )


def _redis_mirror(url: Url) -> RedisMirror:
    """Raises `ConfigurationError` for a URL that the driver does not take."""
    from token_service.stores.redis.mirror import RedisMirror

    try:
        return RedisMirror(url.reveal())
    except (ValueError, TypeError):  # whose text may repeat a part of the URL
        raise ConfigurationError(f"TOKEN_SERVICE_REDIS_URL: {url} has an option that can't be used") from None


async def check(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Try what `serve` needs of its surroundings, with the code that `serve` uses.

    Changes nothing, and asks neither the database nor Redis. An HSM is logged in to. Raises
    `ConfigurationError` with everything that is wrong.
    """
    problems: list[str] = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except (ConfigurationError, SigningUnavailableError) as error:
            problems.append(error.message)

    with noting():
        PolicyFile(settings.policy_file, environ).load()
    with noting():
        if (tls := _tls(settings)) is not None:
            ReloadingCredentials(tls).load()
    with noting():
        # In development a missing file is made.
        if settings.is_production or settings.key_encryption_key_file.exists():
            load_key_encryption_keys(settings)
    with noting():
        SqlStores(settings.database_url.reveal(), pool_size=settings.database_pool_size)
    with noting():
        if settings.redis_url is not None:
            await _redis_mirror(settings.redis_url).aclose()
    with noting():
        find_exporters(environ)
    with noting():
        if not settings.is_production and settings.data_dir.exists():
            prepare_data_dir(settings.data_dir)
    for name, address in (("GRPC", settings.grpc_address), ("HTTP", settings.http_address)):
        try:
            if isinstance(address, UnixSocket):
                UnixSocketPath(str(address)).check()
            else:
                # Any port: this one may be that of the node that runs.
                for probe in bind_all(address.host, 0):
                    probe.close()
        except ConfigurationError as error:
            problems.append(error.message)
        except OSError as error:
            problems.append(f"TOKEN_SERVICE_{name}_ADDRESS: can't listen on {address} ({error.strerror})")
    with noting():
        if (module := _pkcs11_keys(settings)) is not None:
            async with module:
                pass
    if problems:
        raise refusal(problems)


def _node_id() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@asynccontextmanager
async def node(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[tuple[str, str]]:
    """A running node: its gRPC and its HTTP address.

    Leaving the context stops it; a background task that fails ends it.
    """
    async with AsyncExitStack() as stack:
        http_address = settings.http_address
        bound = bind_http(http_address.host, http_address.port, reuse_port=settings.reuse_port)
        for listener in bound:
            stack.callback(listener.close)
        # Only now the port is known, and with it the issuer that nobody has set.
        settings = settings.listening(
            settings.grpc_address, Address(http_address.host, bound[0].getsockname()[1])
        )
        yield await stack.enter_async_context(_node(settings, environ, bound))


@asynccontextmanager
async def _node(
    settings: Settings, environ: Mapping[str, str], http_listeners: Sequence[socket.socket]
) -> AsyncIterator[tuple[str, str]]:
    connections = share_connections(
        raise_descriptor_limit(), pool_size=settings.database_pool_size, max_streams=settings.max_streams
    )
    clock = SystemClock()
    node_id = _node_id()
    policy_file = PolicyFile(settings.policy_file, environ)
    document = policy_file.load()
    policies = Policies(document.book)
    authorizer: CertificateAuthorizer | TrustingAuthorizer = TrustingAuthorizer()
    authorities: ClientAuthorities | None = None
    if settings.is_production:
        assert settings.tls_client_ca_file is not None  # the settings require it
        authorities = ClientAuthorities(settings.tls_client_ca_file)
        authorizer = CertificateAuthorizer(document.callers, authorities.load(), clock)
    if not settings.is_production:
        await asyncio.to_thread(prepare_data_dir, settings.data_dir)

    async with AsyncExitStack() as stack:
        metrics = Metrics(environ, node_id)
        stack.callback(metrics.close)
        audit = Audit(metrics.counter("token_service.events", "Events of the audit trail, by name."))
        stack.callback(audit.flush)
        stores = await stack.enter_async_context(
            SqlStores(settings.database_url.reveal(), pool_size=settings.database_pool_size)
        )
        if settings.is_production:
            await stores.require_current()
        else:
            await stores.migrate()
        keys = await stack.enter_async_context(_keys(settings, stores, audit, node_id))
        keyring, key_manager, validators = keys.keyring, keys.manager, keys.validators
        await key_manager.ensure()
        log = FailoverLog(stores.log, clock, secrets.token_bytes, audit)
        time = SteadyTime(clock)
        await time.resume(stores.leases)
        replica = Replica()
        read_index = ReadIndex(log)
        tailer = Tailer(
            log,
            replica,
            read_index,
            keyring,
            clock,
            poll_interval=settings.replica_poll_interval,
            max_staleness=settings.replica_max_age,
            time=time,
        )
        await tailer.start()
        verifier = Verifier([(IssuerRules(settings.issuer, _accepted(settings)), keyring.key_set)])
        keyring.on_change(lambda: verifier.replace_key_set(settings.issuer, keyring.key_set))
        mirroring: Mirroring | None = None
        if settings.redis_url is not None:
            mirror = _redis_mirror(settings.redis_url)
            stack.push_async_callback(mirror.aclose)
            mirroring = Mirroring(mirror, log, read_index, replica, tailer)
        minter = Minter(settings.issuer, keyring, secrets.token_bytes)
        revoker = Revoker(
            log,
            tailer,
            read_index,
            verifier,
            keyring,
            key_manager,
            validators,
            audit,
            quota=RateQuota(
                "revocations of subjects, clients and token ids",
                settings.max_revocations_per_caller,
                60.0,
                clock.monotonic,
            ),
            publish=mirroring.publish if mirroring is not None else None,
        )
        janitor = Janitor(
            stores.sessions,
            log,
            stores.leases,
            time,
            node_id=node_id,
            interval=settings.janitor_interval,
            retention=_SESSION_RETENTION,
        )
        grpc_server = GrpcServer(
            issuer=Issuer(
                stores.sessions,
                minter,
                keyring,
                policies,
                replica,
                issuer=settings.issuer,
                entropy=secrets.token_bytes,
                audit=audit,
            ),
            refresher=Refresher(
                stores.sessions,
                minter,
                keyring,
                policies,
                revoker,
                tailer,
                audit,
                signing_may_fail=settings.pkcs11_module is not None,
            ),
            revoker=revoker,
            introspector=Introspector(verifier, replica, tailer, stores.sessions, keyring, policies),
            sessions=Sessions(stores.sessions, policies),
            keyring=keyring,
            key_manager=key_manager,
            replica=replica,
            log=log,
            read_index=read_index,
            tailer=tailer,
            validators=validators,
            clock=clock,
            issuer_name=settings.issuer,
            limits=_grpc_limits(settings, connections.grpc),
            authorizer=authorizer,
            address=str(settings.grpc_address),
            reuse_port=settings.reuse_port,
            tls=_tls(settings),
            metrics=metrics,
        )
        metrics.gauge(
            "token_service.replica.staleness",
            "How long ago this process knew the head of the revocation log.",
            lambda: tailer.staleness,
            "s",
        )
        metrics.gauge(
            "token_service.revocations",
            "Revocations that are kept because a token they hit could still be valid.",
            lambda: len(replica.revocations),
        )
        metrics.gauge(
            "token_service.policy_file.failing",
            "1 while the policy file can't be used and the policies read before stay in force.",
            lambda: int(policy_file.is_failing),
        )
        metrics.gauge("token_service.streams", "Open revocation streams.", lambda: len(grpc_server.feed))

        def policies_changed(changed: PolicyDocument) -> None:
            policies.book = changed.book
            if isinstance(authorizer, CertificateAuthorizer):
                authorizer.callers = changed.callers

        def authorities_changed(changed: Sequence[Certificate]) -> None:
            assert isinstance(authorizer, CertificateAuthorizer)
            authorizer.authorities = changed

        listening = False

        def problems() -> list[str]:
            found = [] if listening else ["gRPC does not listen yet, or any more"]
            if tailer.staleness > settings.replica_max_age:
                found.append(f"the revocation log is not being followed: {tailer.trouble}")
            if stores.trouble is not None:
                found.append(stores.trouble)
            return found

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(stores.watch(), name="space"),
                group.create_task(tailer.run(), name="tailer"),
                group.create_task(validators.run(), name="validators"),
                group.create_task(key_manager.run(), name="key-manager"),
                group.create_task(janitor.run(), name="janitor"),
                group.create_task(policy_file.watch(policies_changed), name="policy-file"),
            ]
            if authorities is not None:
                tasks.append(
                    group.create_task(authorities.watch(authorities_changed), name="client-authorities")
                )
            if mirroring is not None:
                tasks.append(group.create_task(mirroring.run(), name="mirroring"))
            http_server = HttpServer(
                settings.http_address.host,
                settings.http_address.port,
                jwks=lambda: strict_json.encode({"keys": keyring.jwks}),
                readiness=problems,
                grace=settings.shutdown_grace,
                key_announce_time=settings.key_announce_time,
                connections=ConnectionLimits(most=connections.http),
                bound=http_listeners,
            )
            async with http_server:
                grpc_address = await grpc_server.start()
                tasks.append(group.create_task(grpc_server.run(), name="grpc-server"))
                listening = True
                try:
                    yield grpc_address, http_server.address
                finally:
                    listening = False
                    await grpc_server.stop(settings.shutdown_grace)
            for task in tasks:
                task.cancel()


def _grpc_limits(settings: Settings, connections: int) -> GrpcLimits:
    return GrpcLimits(
        max_message_bytes=settings.max_message_bytes,
        max_concurrent_calls=settings.max_concurrent_calls,
        max_calls_per_caller=settings.max_calls_per_caller or (settings.max_concurrent_calls + 1) // 2,
        max_streams=settings.max_streams,
        max_streams_per_caller=settings.max_streams_per_caller or (settings.max_streams + 1) // 2,
        stream_max_age=settings.stream_max_age,
        max_connections=connections,
        connection_max_age=settings.connection_max_age,
    )


def _settle_memory() -> None:
    """Collect garbage seldom, and not among what is there by now: that lives as long as the process, and
    calls leave few cycles behind.

    Large blocks go back to the system when they are freed. Left alone, glibc raises the threshold with the first one
    it frees, and then keeps the memory of every large request and answer there ever was at a time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    with suppress(OSError, AttributeError):  # another C library has no such threshold
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _accepted(settings: Settings) -> frozenset[Algorithm]:
    """The algorithms tokens are accepted with: all asymmetric ones, so that a change from one to another
    breaks nothing.
    """
    accepted = {Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA}
    if settings.allow_hs256:
        accepted.add(Algorithm.HS256)
    return frozenset(accepted)


def _tls(settings: Settings) -> TlsFiles | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)

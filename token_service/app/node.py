"""A running node: a core, its edges and its background tasks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from token_service.app.access import Access
from token_service.app.adapters import audit_keys_of, new_node_id, open_core, open_stores, redis_adapters
from token_service.app.core import Core
from token_service.app.edges import (
    grpc_limits,
    http_certificates,
    http_edge,
    http_tls,
    make_feed,
    make_oauth_routes,
    make_services,
    tls_files,
)
from token_service.clock import SystemClock
from token_service.config import Address, Settings, prepare_data_dir
from token_service.config.descriptors import raise_descriptor_limit, share_connections
from token_service.core.events.queue import RowQueue
from token_service.core.logout.delivering import Outcome
from token_service.core.policies.rates import Bucket, Operation
from token_service.listening import NodeAddresses
from token_service.rpc.server.server import GrpcServer
from token_service.rpc.stream.feed import Feed
from token_service.telemetry import Audit, Metrics
from token_service.tokens import strict_json
from token_service.web.app import make_app
from token_service.web.connections import ConnectionLimits
from token_service.web.oauth.discovery import issuer_path
from token_service.web.oauth.pages import Pages
from token_service.web.server import HttpServer, bind as bind_http


@asynccontextmanager
async def node(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[NodeAddresses]:
    """Run a node; yield its addresses.

    Leaving the context stops the node. A background task that fails ends the node.
    """
    async with AsyncExitStack() as stack:
        http_address = settings.http_address
        bound = bind_http(http_address.host, http_address.port, reuse_port=settings.reuse_port)
        for listener in bound:
            stack.callback(listener.close)
        # The default issuer contains the port, which is known only now.
        settings = settings.listening(
            settings.grpc_address, Address(http_address.host, bound[0].getsockname()[1])
        )
        yield await stack.enter_async_context(_node(settings, environ, bound))


@asynccontextmanager
async def _node(
    settings: Settings, environ: Mapping[str, str], http_listeners: Sequence[socket.socket]
) -> AsyncIterator[NodeAddresses]:
    connections = share_connections(
        raise_descriptor_limit(), pool_size=settings.database_pool_size, max_streams=settings.max_streams
    )
    node_id = new_node_id()
    access = Access(settings, environ, SystemClock())
    tls = await asyncio.to_thread(http_tls, settings)
    if not settings.is_production:
        await asyncio.to_thread(prepare_data_dir, settings.data_dir)

    async with AsyncExitStack() as stack:
        metrics = Metrics(environ, node_id)
        stack.callback(metrics.close)
        stores = await stack.enter_async_context(
            open_stores(settings, await audit_keys_of(settings), node_id)
        )
        rows = RowQueue(stores.audit.append, SystemClock())
        audit = Audit(
            metrics.counter("token_service.events", "Events of the audit trail, by name."),
            rows,
            routine_rows=settings.audit_routine == "sql",
        )
        stack.callback(audit.flush)
        if settings.is_production:
            await stores.require_current()
        else:
            await stores.migrate()
        mirror = counters = None
        if settings.redis_url is not None:
            mirror, counters = redis_adapters(settings.redis_url)
            stack.push_async_callback(mirror.aclose)
            stack.push_async_callback(counters.aclose)
        core = await stack.enter_async_context(
            open_core(
                settings,
                stores,
                audit,
                node_id,
                policies=access.policies,
                mirror=mirror,
                counters=counters,
                rate_limited=_count_limited(metrics),
                logout_counted=_count_logouts(metrics),
            )
        )
        authorizer = access.authorizer(core)
        await core.start()
        limits = grpc_limits(settings, connections.grpc)
        feed = make_feed(core, authorizer, limits)
        grpc_server = GrpcServer(
            make_services(core, feed),
            limits=limits,
            authorizer=authorizer,
            address=str(settings.grpc_address),
            reuse_port=settings.reuse_port,
            tls=tls_files(settings),
            metrics=metrics,
            token_address=None if settings.grpc_token_address is None else str(settings.grpc_token_address),
            refusals=core.refusals,
        )
        _add_gauges(metrics, core, access, feed)
        listening = False

        def problems() -> list[str]:
            found = [] if listening else ["gRPC does not listen: the node is starting or stopping"]
            if core.tailer.staleness > settings.replica_max_age:
                found.append(f"the node can't read the revocation log: {core.tailer.trouble}")
            if stores.trouble is not None:
                found.append(stores.trouble)
            return found

        edge = http_edge(settings, metrics)
        http_server = HttpServer(
            settings.http_address.host,
            settings.http_address.port,
            make_app(
                lambda: strict_json.encode({"keys": core.keyring.jwks}),
                problems,
                edge=edge,
                routes=make_oauth_routes(
                    core,
                    access.authenticator,
                    edge,
                    certificates=http_certificates(settings),
                    pages=Pages(settings.templates_dir),
                ),
                key_announce_time=settings.key_announce_time,
                issuer_path=issuer_path(core.options.issuer),
            ),
            grace=settings.shutdown_grace,
            connections=ConnectionLimits(most=connections.http),
            bound=http_listeners,
            tls=tls,
        )
        background = {
            "space": stores.watch,
            "audit-rows": rows.run,
            **core.background(),
            **access.background(),
        }
        if tls is not None:
            background["http-tls"] = tls.watch
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(), name=name) for name, run in background.items()]
            async with http_server:
                grpc_address = await grpc_server.start()
                tasks.append(group.create_task(grpc_server.run(), name="grpc-server"))
                listening = True
                try:
                    yield NodeAddresses(grpc_address, http_server.address, grpc_server.bound_token_address)
                finally:
                    listening = False
                    await grpc_server.stop(settings.shutdown_grace)
            for task in tasks:
                task.cancel()


def _count_limited(metrics: Metrics) -> Callable[[Operation, Bucket], None] | None:
    counter = metrics.counter(
        "token_service.rate_limited", "Calls that a rate of the policy refused, by operation and bucket."
    )
    if counter is None:
        return None
    return lambda operation, bucket: counter.add(
        1, {"token_service.operation": operation.value, "token_service.bucket": bucket.value}
    )


def _count_logouts(metrics: Metrics) -> Callable[[Outcome], None] | None:
    counter = metrics.counter(
        "token_service.logouts", "Attempts to tell a client that a session has ended, by outcome."
    )
    if counter is None:
        return None
    return lambda outcome: counter.add(1, {"token_service.outcome": outcome.value})


def _add_gauges(metrics: Metrics, core: Core, access: Access, feed: Feed) -> None:
    metrics.gauge(
        "token_service.replica.staleness",
        "Time since this process last knew the head of the revocation log.",
        lambda: core.tailer.staleness,
        "s",
    )
    metrics.gauge(
        "token_service.revocations",
        "Revocations kept because a token they revoke could otherwise still be valid.",
        lambda: len(core.replica.revocations),
    )
    metrics.gauge(
        "token_service.policy_file.failing",
        "1 while the policy file is unusable and the policies read earlier stay in force.",
        lambda: int(access.policy_file.is_failing),
    )
    if (logout := core.backchannel_logout) is not None:
        metrics.gauge(
            "token_service.logouts.pending",
            "Logouts that clients are still to be told of, on the node that delivers them.",
            lambda: logout.backlog.count,
        )
    metrics.gauge("token_service.streams", "Open revocation streams.", lambda: len(feed))

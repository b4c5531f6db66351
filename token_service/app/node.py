"""A running node: a core, its edges and its background tasks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from token_service import __version__
from token_service.app.access import Access
from token_service.app.adapters import audit_keys_of, new_node_id, open_core, open_stores, redis_adapters
from token_service.app.console import console_history, make_console_routes
from token_service.app.edges import (
    grpc_limits,
    http_certificates,
    http_edge,
    http_tls,
    make_event_readers,
    make_feed,
    make_oauth_routes,
    make_services,
    tls_files,
)
from token_service.app.metering.counting import count_core, event_counter, port_counts
from token_service.app.metering.gauges import Gauges, Observed
from token_service.app.metering.serving import MetricsPage, share_of
from token_service.app.personal_data_start import settle_personal_data
from token_service.app.ports import NodeFiles
from token_service.app.readiness import Colleagues, NodeReadiness
from token_service.app.reload import Reloader
from token_service.app.reloadable import apply_settings
from token_service.app.signals import Signals
from token_service.clock import SystemClock
from token_service.config import Address, Settings, prepare_data_dir
from token_service.config.descriptors import raise_descriptor_limit, share_connections
from token_service.core.events.queue import RowQueue
from token_service.listening import NodeAddresses
from token_service.rpc.server.server import GrpcServer
from token_service.stores.sql.migrations import HEAD
from token_service.telemetry import Audit, Metrics, Traces
from token_service.telemetry.board import MetricsShare
from token_service.telemetry.registry import TLS_FAILURES
from token_service.tokens import strict_json
from token_service.web.app import make_app
from token_service.web.connections import ConnectionLimits
from token_service.web.oauth.discovery import issuer_path
from token_service.web.oauth.pages import Pages
from token_service.web.probes import Checks, Probes
from token_service.web.server import HttpServer, bind as bind_http


@asynccontextmanager
async def node(
    settings: Settings,
    environ: Mapping[str, str],
    share: MetricsShare | None = None,
    reload: asyncio.Event | None = None,
    colleagues: Colleagues | None = None,
) -> AsyncIterator[NodeAddresses]:
    """Run a node; yield its addresses.

    `share`: its part in the page of metrics of several workers. `colleagues`: the workers that share its ports; None: it is
    alone.


    Setting `reload` makes the node load its settings again. Leaving the context stops the node. A background task that
    fails ends the node.
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
        share = share_of(settings, share)
        yield await stack.enter_async_context(
            _node(settings, environ, bound, share, reload or asyncio.Event(), colleagues)
        )


@asynccontextmanager
async def _node(
    settings: Settings,
    environ: Mapping[str, str],
    http_listeners: Sequence[socket.socket],
    share: MetricsShare | None,
    reload: asyncio.Event,
    colleagues: Colleagues | None,
) -> AsyncIterator[NodeAddresses]:
    connections = share_connections(
        raise_descriptor_limit(), pool_size=settings.database_pool_size, max_streams=settings.max_streams
    )
    node_id = new_node_id()
    access = Access(settings, environ, SystemClock())
    reloader = Reloader(settings, environ, SystemClock(), node_id=node_id, requested=reload)
    tls = await asyncio.to_thread(http_tls, settings)
    if not settings.is_production:
        await asyncio.to_thread(prepare_data_dir, settings.data_dir)

    async with AsyncExitStack() as stack:
        metrics = Metrics(environ, node_id, None if share is None else share.segment)
        stack.callback(metrics.close)
        traces = Traces(environ, node_id, trusts_callers=settings.trace_sampling_by_callers)
        stack.callback(traces.close)
        stores = await stack.enter_async_context(
            open_stores(settings, await audit_keys_of(settings), node_id)
        )
        rows = RowQueue(stores.audit.append, SystemClock())
        audit = Audit(
            event_counter(metrics, settings.metrics_top_clients),
            rows,
            routine_rows=settings.audit_routine != "log",
        )
        stores.audit.announce_routine(settings.audit_routine == "events")
        stack.callback(audit.flush)
        if settings.is_production:
            await stores.require_current()
        else:
            await stores.migrate()
        await settle_personal_data(settings, stores)
        mirror, counters = redis_adapters(settings) or (None, None)
        if mirror is not None and counters is not None:
            stack.push_async_callback(mirror.aclose)
            stack.push_async_callback(counters.aclose)
        core = await stack.enter_async_context(
            open_core(
                settings,
                stores,
                audit,
                node_id,
                policies=access.policies,
                files=NodeFiles(
                    callers=lambda: access.callers,
                    automatic_rules=lambda: access.automatic_rules,
                    parse_policies=access.parse_policies,
                    policy_problem=lambda: access.policy_problem,
                    configuration=reloader.effective,
                ),
                mirror=mirror,
                counters=counters,
                counts=port_counts(metrics),
            )
        )
        audit.on_stored = core.event_feed.wake
        authorizer = access.authorizer(core)
        lag = count_core(metrics, core, stores)
        await core.start()
        limits = grpc_limits(settings, connections.grpc)
        feed = make_feed(core, authorizer, limits)
        event_readers = make_event_readers(core, authorizer, limits)
        grpc_server = GrpcServer(
            make_services(core, feed, event_readers, metrics),
            limits=limits,
            authorizer=authorizer,
            address=str(settings.grpc_address),
            reuse_port=settings.reuse_port,
            tls=tls_files(settings),
            metrics=metrics,
            token_address=None if settings.grpc_token_address is None else str(settings.grpc_token_address),
            refusals=core.refusals,
            tracer=traces.tracer,
        )
        signals = Signals(core, access, stores, rows, tls_files(settings))
        core.cluster.description.signals = signals.read

        def checks() -> Checks:
            is_stale = core.tailer.staleness > settings.replica_max_age
            return {
                "revocation-log": f"the node can't read the revocation log: {core.tailer.trouble}"
                if is_stale
                else None,
                "database-writes": stores.trouble,
                "personal-data": stores.personal_data.trouble,
            }

        readiness = NodeReadiness(checks, colleagues)
        signals.problems = readiness.problems
        observed = Observed(
            core=core,
            access=access,
            feed=feed,
            event_readers=event_readers,
            stores=stores,
            rows=rows,
            lag=lag,
            tls=tls_files(settings),
            problems=readiness.problems,
        )
        gauges = Gauges(metrics, observed)
        page = MetricsPage(settings, share, gauges.update)
        history = console_history(core, page.values)
        edge = http_edge(settings, metrics, traces.tracer)
        http_server = HttpServer(
            settings.http_address.host,
            settings.http_address.port,
            make_app(
                lambda: strict_json.encode({"keys": core.keyring.jwks}),
                Probes(
                    readiness=readiness.ready,
                    startup=readiness.startup,
                    version={"version": __version__, "schema_revision": HEAD},
                ),
                edge=edge,
                routes=[
                    *page.routes(edge),
                    *make_oauth_routes(
                        core,
                        access.authenticator,
                        edge,
                        certificates=http_certificates(settings),
                        pages=Pages(settings.templates_dir),
                    ),
                    *make_console_routes(core, settings, lambda: access.operators, history, edge),
                ],
                key_announce_time=settings.key_announce_time,
                issuer_path=issuer_path(core.options.issuer),
            ),
            grace=settings.shutdown_grace,
            connections=ConnectionLimits(most=connections.http),
            bound=http_listeners,
            tls=tls,
        )
        reloader.on_change(
            lambda changed: apply_settings(
                changed, core=core, audit=audit, grpc_server=grpc_server, feed=feed, http=edge
            )
        )
        background = {
            "reload": reloader.run,
            "readiness": readiness.run,
            "space": stores.watch,
            "stalled-transactions": stores.stalled.run,
            "personal-data": stores.personal_data.run,
            "audit-rows": rows.run,
            "signals": signals.run,
            "gauges": gauges.run,
            **({"console-history": history.run} if settings.has_console else {}),
            **core.background(),
            **access.background(),
        }
        failures = metrics.counter(TLS_FAILURES)
        if tls is not None:
            if failures is not None:
                tls.on_failure = lambda reason: failures.add(1, reason)
            background["http-tls"] = tls.watch
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(), name=name) for name, run in background.items()]
            async with page.server(), http_server:
                grpc_address = await grpc_server.start()
                tasks.append(group.create_task(grpc_server.run(), name="grpc-server"))
                readiness.started()
                try:
                    yield NodeAddresses(grpc_address, http_server.address, grpc_server.bound_token_address)
                finally:
                    readiness.stopping()
                    await grpc_server.stop(settings.shutdown_grace)
            for task in tasks:
                task.cancel()

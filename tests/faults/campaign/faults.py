"""The faults: where each one happens, how it begins and how it ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import redis

from tests.faults.campaign.history import clock
from tests.faults.campaign.site import NODES, NodeProcess, Process, Site
from tests.support.deadline import DeadlineExceededError, eventually_sync

Step = Callable[[], Awaitable[None]]

_HOUR = 3600
_INSTANT = (0.0, 0.2)


@dataclass(frozen=True)
class Fault:
    """One fault at one place. `end` undoes the effect of `begin`."""

    kind: str
    target: str
    begin: Step
    end: Step
    touches: frozenset[str]
    """Parts that no other concurrent fault may touch."""
    lasts: tuple[float, float] | None = None
    """Shortest and longest duration in seconds; None: the default of the schedule."""


def catalog(site: Site, rng: random.Random) -> list[Fault]:
    """Return every fault at every possible place."""
    return [
        *(fault for process in site.processes for fault in _of_process(site, process)),
        *_of_redis(site),
        *_of_postgres(site),
        *(fault for number in range(NODES) for fault in _of_node(site, number, rng)),
        _storm(site),
        _late_answers(site),
        *(_clock(site, name, offset) for name in site.clocks for offset in (_HOUR, -_HOUR)),
    ]


async def _nothing() -> None:
    return None


def _in_thread(work: Callable[..., object], *arguments: object) -> Step:
    async def step() -> None:
        await asyncio.to_thread(work, *arguments)

    return step


def _of_process(site: Site, process: Process) -> list[Fault]:
    kind = process.name.rstrip("0123456789")

    def kill() -> None:
        site.held.add(process.name)
        process.kill()

    def release() -> None:
        site.held.discard(process.name)
        site.restart_what_ended()

    def resume() -> None:
        if process.running:
            process.resume()

    def pause() -> None:
        if process.running:
            process.pause()

    touches = frozenset({process.name})
    faults = [
        Fault(f"kill -9 of {kind}", process.name, _in_thread(kill), _in_thread(release), touches),
        Fault(f"SIGSTOP of {kind}", process.name, _in_thread(pause), _in_thread(resume), touches),
    ]
    if isinstance(process, NodeProcess):
        faults.append(
            Fault(
                "many short SIGSTOPs of node",
                process.name,
                _nothing,
                _in_thread(_stutter, pause, resume),
                touches,
                lasts=_INSTANT,
            )
        )
    return faults


def _stutter(pause: Callable[[], None], resume: Callable[[], None]) -> None:
    for number in range(12):
        pause()
        time.sleep(0.05 + 0.02 * number)
        resume()
        time.sleep(0.05)


def _of_redis(site: Site) -> list[Fault]:
    server = site.redis

    def command(*words: str) -> None:
        with redis.Redis.from_url(server.url, socket_timeout=20) as client:
            client.execute_command(*words)

    def fault(kind: str, begin: Step, end: Step = _nothing) -> Fault:
        return Fault(kind, "redis", begin, end, frozenset({"redis"}))

    return [
        fault("Redis emptied", _in_thread(server.flushall)),
        fault("Redis killed, back empty", _in_thread(server.kill), _in_thread(server.start)),
        fault("Redis restarted empty", _in_thread(server.restart)),
        fault("Redis stopped (SIGSTOP)", _in_thread(server.pause), _in_thread(server.resume)),
        fault(
            "Redis read-only",
            _in_thread(command, "REPLICAOF", "127.0.0.1", "1"),
            _in_thread(command, "REPLICAOF", "NO", "ONE"),
        ),
    ]


def _of_postgres(site: Site) -> list[Fault]:
    pair = site.postgres
    both = frozenset({"postgres", "standby"})

    def primary(kind: str, begin: Step, end: Step = _nothing) -> Fault:
        return Fault(kind, "postgres", begin, end, frozenset({"postgres"}))

    def on_standby(name: str) -> Step:
        return _in_thread(lambda: getattr(pair.standby, name)())  # noqa: PLW0108  # looked up at the call, because the standby changes

    def on_primary(name: str, **settings: str | None) -> Step:
        return _in_thread(lambda: getattr(pair.primary, name)(**settings))

    def fail_over_after_partition() -> None:
        # This would lose writes that the primary acknowledged without the standby.
        assert pair.standby is not None
        pair.primary.kill()
        pair.standby.resume()
        pair.fail_over()

    return [
        primary("PostgreSQL killed", on_primary("kill"), on_primary("start")),
        primary("PostgreSQL restarted", on_primary("restart")),
        primary("PostgreSQL stopped (SIGSTOP)", on_primary("pause"), on_primary("resume")),
        primary(
            "PostgreSQL read-only",
            on_primary("configure", default_transaction_read_only="on"),
            on_primary("configure", default_transaction_read_only=None),
        ),
        Fault("PostgreSQL failed over", "postgres", _in_thread(pair.fail_over), _nothing, both),
        Fault("standby killed", "standby", on_standby("kill"), on_standby("start"), frozenset({"standby"})),
        Fault(
            "standby stopped (SIGSTOP)",
            "standby",
            on_standby("pause"),
            on_standby("resume"),
            frozenset({"standby"}),
        ),
        Fault(
            "standby cut off, then PostgreSQL failed over",
            "postgres",
            on_standby("pause"),
            _in_thread(fail_over_after_partition),
            both,
        ),
    ]


def _of_node(site: Site, number: int, rng: random.Random) -> list[Fault]:
    front, back, node = site.fronts[number], site.backs[number], site.nodes[number]
    pair = site.postgres
    faults = []
    for proxy, between, touched in (
        (front, "validators and nodes", f"front{number}"),
        (back, "nodes and PostgreSQL", f"back{number}"),
    ):
        touches = frozenset({touched})
        heal = _in_thread(proxy.heal)
        faults += [
            Fault(f"connections cut between {between}", touched, _in_thread(proxy.cut), heal, touches),
            Fault(f"connections held between {between}", touched, _in_thread(proxy.hold), heal, touches),
            Fault(
                f"connections slow between {between}",
                touched,
                _in_thread(proxy.slow, rng.uniform(0.05, 0.4)),
                heal,
                touches,
            ),
            # Probes time out at this delay, but questions about single tokens are answered.
            Fault(
                f"connections very slow between {between}",
                touched,
                _in_thread(proxy.slow, 0.45 * site.bound),
                heal,
                touches,
            ),
        ]

    def cut_while_answers_travel() -> None:
        front.slow(0.5 * site.bound)
        # Wait until validators ask about single tokens and the node has answered.
        time.sleep(1.5 * site.bound)
        back.cut()

    def go_on() -> None:
        back.heal()
        front.heal()

    def lead_to_standby() -> None:
        assert pair.standby is not None
        pair.standby.query("SELECT pg_wal_replay_pause()")
        back.lead_to(pair.standby_address)

    def lead_back() -> None:
        assert pair.standby is not None
        pair.standby.query("SELECT pg_wal_replay_resume()")
        back.lead_to(pair.address)

    def replace_certificate() -> None:
        site.certificates.replace(number)

    def look_at_certificate() -> None:
        def served() -> bool:
            try:
                return site.certificates.is_served(number, node.grpc_address)
            except OSError:
                return False  # the node is unreachable

        try:
            eventually_sync(served, timeout=60, interval=0.3)
        except DeadlineExceededError:
            site.journal.write("certificate", p=node.name, at=clock(), served=False)

    return [
        *faults,
        Fault(
            "node cut off from PostgreSQL while slow answers are on their way",
            node.name,
            _in_thread(cut_while_answers_travel),
            _in_thread(go_on),
            frozenset({f"back{number}", f"front{number}"}),
        ),
        Fault(
            "validators redirected to another node",
            f"front{number}",
            _in_thread(front.lead_to, site.nodes[1 - number].grpc_address),
            _in_thread(front.lead_to, node.grpc_address),
            frozenset({f"front{number}"}),
        ),
        Fault(
            "node redirected to the standby",
            f"back{number}",
            _in_thread(lead_to_standby),
            _in_thread(lead_back),
            frozenset({f"back{number}", "postgres", "standby"}),
        ),
        Fault(
            "TLS certificate replaced",
            node.name,
            _in_thread(replace_certificate),
            _in_thread(look_at_certificate),
            frozenset({node.name}),
            lasts=_INSTANT,
        ),
    ]


def _storm(site: Site) -> Fault:
    """Return a fault that makes all validators reconnect repeatedly."""

    def blow() -> None:
        for _ in range(8):
            for front in site.fronts:
                front.reset()
            time.sleep(0.15)

    return Fault(
        "reconnect storm", "all validators", _in_thread(blow), _nothing, _all_fronts(), lasts=_INSTANT
    )


def _late_answers(site: Site) -> Fault:
    """Return a fault that leaves validators only answers of nodes, without a stream."""

    def lead(addresses: Sequence[str]) -> None:
        for front, address in zip(site.fronts, addresses, strict=True):
            front.lead_to(address)

    return Fault(
        "validators without a stream, answered late",
        "all validators",
        _in_thread(lead, site.gateways),
        _in_thread(lead, [node.grpc_address for node in site.nodes]),
        _all_fronts(),
        # Long enough for validators to ask, for a revocation of those tokens, and for another validation.
        lasts=(4 * site.bound, 7 * site.bound),
    )


def _all_fronts() -> frozenset[str]:
    return frozenset(f"front{number}" for number in range(NODES))


def _clock(site: Site, name: str, offset: int) -> Fault:
    moved = site.clocks[name]
    kind = f"clock of {name.rstrip('0123456789')} set {'ahead' if offset > 0 else 'back'} by an hour"
    return Fault(
        kind, name, _in_thread(moved.move, offset), _in_thread(moved.move, 0), frozenset({f"clock of {name}"})
    )

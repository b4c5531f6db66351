"""A model of how a validator accepts a token while it is revoked, for `explore`.

Threads, network, service and time are processes. Any of them may take the next step, so each may also be stopped
before any step for as long as the model lasts. A step is one access to data that another thread writes.
The model needs no model checker and no compiler, so every test run explores it.

The code of each step:

- validation: `LocalValidator.check` (token_service/client/_internal/local.py), first its fast path ("fast ..."), then `_check`
  ("slow ..."), then `_settle_stale` ("settle ...") with `ThreadSingleFlight.do_if` and `_Service._ask`;
- stream: `FollowerState.apply`, `_replace_by` (token_service/client/_internal/following/state.py), `RevocationSet.apply`;
- probe: `FollowerState.begin_probe`, `answer`, `sweep`, and the node's answer;
- settle: `FollowerState._settle` and `_prove`, by the thread that holds the lock of `ThreadFollower`;
- service: commits one revocation of the token, then acknowledges it.

The property: a validation that begins S or later after the acknowledgment accepts nothing.

Nothing sets the wall clock here, so the model has no `fresh_from`. Times and versions are small numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

S = 1
NEVER = -9


class Fault(Enum):
    """A defect to build in, which the model must find."""

    FRESHNESS_LAST = auto()
    """The slow path reads freshness after the look-up and does not read the version again."""
    VERSION_BEFORE_FRESHNESS = auto()
    """The fast path compares the version before it reads freshness."""
    DATED_BY_JOINER = auto()
    """A shared answer is dated by the question of the last caller who joined."""
    TIMES_ONCE = auto()
    """The slow path compares times only before the look-up."""
    VERSION_BEFORE_ENTRY = auto()
    """An applied entry changes the version before the set."""
    FRESH_FROM_ANSWER = auto()
    """Freshness counts from the arrival of the answer to a probe."""
    PROVEN_BEFORE_APPLIED = auto()
    """An answered probe proves the set before the set has caught up with the head."""


class RevocationSet(NamedTuple):
    """Whether the set contains the entry, and its `version`."""

    revoked: bool
    version: int


class Known(NamedTuple):
    """The state about the token that validations share."""

    clean_version: int
    proof: tuple[int, int] | None = None
    """Time of the question to the service: wall clock, elapsed time."""


class Flight(NamedTuple):
    """A shared question to the service."""

    asked: tuple[int, int] | None = None
    active: bool | None = None
    done: bool = False


class Validation(NamedTuple):
    """A validating thread: its next step and its local variables."""

    at: str = "begin"
    judged: bool = False
    """Whether it begins S or later after the acknowledgment, and therefore must not accept."""
    now: int = 0
    elapsed: int = 0
    pointer: int = 0
    version: int = 0
    fresh: bool = False
    flight: int = -1
    asked: tuple[int, int] | None = None
    tries: int = 0


class World(NamedTuple):
    """The whole state."""

    validations: tuple[Validation, ...]
    known: Known
    probes_left: int
    snapshots_left: int
    sets: tuple[RevocationSet, ...] = (RevocationSet(revoked=False, version=1),)
    current: int = 0
    """Index of the set that `Feed.revocations` refers to."""
    fresh_to: int = NEVER
    fresh_until: int = NEVER
    proven_at: int = NEVER
    time: int = 0
    committed: bool = False
    acknowledged: int | None = None
    cursor: bool = False
    """Whether every entry up to the revocation was applied."""
    lock: str = ""
    """The holder of `ThreadFollower.writing`."""
    stream: str = "next"
    snapshot: bool = False
    """Whether the snapshot in progress contains the revocation."""
    probe: str = "begin"
    begun: tuple[int, int] = (0, 0)
    """Start of the probe in progress: wall clock, elapsed time."""
    head: bool = False
    pending: tuple[tuple[int, int, bool], ...] = ()
    settle: str = "next"
    proving: tuple[int, int] = (0, 0)
    flights: tuple[Flight, ...] = ()
    under_way: int = -1
    outcome: str = ""
    """The outcome of the judged validation."""


Steps: TypeAlias = Iterator[tuple[str, World]]


@dataclass(frozen=True)
class Model:
    """The size of the model, and its defect."""

    end: int = 3
    """Last point of time."""
    expiry: int = 3
    """Time at which the token expires and its entry may be removed."""
    others: int = 0
    """Validations besides the judged one: they begin at any time and share `Known`."""
    probes: int = 0
    snapshots: int = 0
    delivers: bool = True
    """Whether the stream delivers the entry."""
    max_flights: int = 0
    """Questions to the service; 0: WhenStale.REJECT."""
    fault: Fault | None = None

    def initial(self) -> Iterator[World]:
        """Yield worlds where the token was or was not seen at the version of the set, freshly proven or never proven."""
        for clean_version in (1, -1):
            for proven_at in (0, NEVER) if self.probes else (NEVER,):
                yield World(
                    (Validation(judged=True), *(Validation(),) * self.others),
                    Known(clean_version),
                    self.probes,
                    self.snapshots,
                    proven_at=proven_at,
                    fresh_to=proven_at + S,
                    fresh_until=proven_at + S,
                )

    def successors(self, world: World) -> Steps:
        """Yield every step that a process can take."""
        if world.outcome:
            return
        # No later acknowledgment leaves S for a validation to begin.
        if world.time < self.end - (S if world.acknowledged is None else 0):
            yield "time", world._replace(time=world.time + 1)
        yield from self._service(world)
        yield from self._stream(world)
        yield from self._probe(world)
        if world.lock == "settle":
            yield from self._settle(world)
        for number, validation in enumerate(world.validations):
            for following, after in STEPS[validation.at](self, world, validation):
                others = world.validations[:number] + world.validations[number + 1 :]
                yield (
                    validation.at,
                    after._replace(validations=(*others[:number], following, *others[number:])),
                )

    @staticmethod
    def is_wrong(world: World) -> bool:
        """Return whether a revoked token was just accepted too late."""
        return world.outcome == "accepted"

    # --- the service ---

    @staticmethod
    def _service(world: World) -> Steps:
        if not world.committed:
            yield "service commits", world._replace(committed=True)
        elif world.acknowledged is None:
            yield "service acknowledges", world._replace(acknowledged=world.time)

    # --- the thread that reads the stream ---

    def _stream(self, world: World) -> Steps:
        free = not world.lock
        entry_first = self.fault is not Fault.VERSION_BEFORE_ENTRY
        match world.stream:
            case "next" if free:
                if self.delivers and world.committed and not world.cursor:
                    change = _add_entry if entry_first else _change_version
                    yield "stream applies", change(world._replace(lock="stream", stream="second"))
                if world.snapshots_left:
                    has = world.committed
                    left = world.snapshots_left - 1
                    yield (
                        "stream begins a snapshot",
                        world._replace(snapshot=has, snapshots_left=left, stream="snapshot"),
                    )
            case "second":
                change = _change_version if entry_first else _add_entry
                # The cursor changes in the same step, because only the holder of the lock reads it.
                after = change(world._replace(cursor=True, lock="settle", stream="next"))
                yield "stream applies, second half", after
            case "snapshot" if free:
                version = max(revocations.version for revocations in world.sets) + 1
                revoked = world.snapshot and world.time < self.expiry
                sets = (*world.sets, RevocationSet(revoked, version))
                after = world._replace(
                    sets=sets, current=len(sets) - 1, cursor=world.snapshot, snapshot=False
                )
                yield "stream replaces the set", after._replace(lock="settle", stream="next")

    # --- the thread that proves freshness ---

    def _probe(self, world: World) -> Steps:
        free = not world.lock
        if free and world.time >= self.expiry and world.sets[world.current].revoked:
            yield "probe sweeps", _with_current(world, revoked=False)
        match world.probe:
            case "begin" if free and world.probes_left:
                yield (
                    "probe reads elapsed time",
                    world._replace(
                        lock="probe", probe="now", begun=(0, world.time), probes_left=world.probes_left - 1
                    ),
                )
            case "now":
                begun = world.time, world.begun[1]
                yield "probe reads the wall clock", world._replace(lock="", probe="asked", begun=begun)
            case "asked":
                yield "node reads the head", world._replace(probe="answered", head=world.committed)
            case "answered" if free:
                begun = world.begun if self.fault is not Fault.FRESH_FROM_ANSWER else (world.time, world.time)
                pending = (*world.pending, (*begun, world.head))
                yield (
                    "probe is answered",
                    world._replace(lock="settle", probe="begin", begun=(0, 0), head=False, pending=pending),
                )

    def _settle(self, world: World) -> Steps:
        match world.settle:
            case "next":
                for probe in world.pending:
                    now, elapsed, head = probe
                    if head and not world.cursor and self.fault is not Fault.PROVEN_BEFORE_APPLIED:
                        continue
                    rest = tuple(other for other in world.pending if other is not probe)
                    world = world._replace(pending=rest)
                    if elapsed < world.proven_at:
                        yield "settle ignores an older proof", world
                    else:
                        world = world._replace(settle="fresh_to", proving=(now, elapsed), proven_at=elapsed)
                        yield "settle writes proven_at", world
                    return
                yield "settle ends", world._replace(lock="")
            case "fresh_to":
                yield (
                    "settle writes fresh_to",
                    world._replace(fresh_to=world.proving[0] + S, settle="fresh_until"),
                )
            case "fresh_until":
                yield (
                    "settle writes fresh_until",
                    world._replace(fresh_until=world.proving[1] + S, settle="next", proving=(0, 0)),
                )


# --- a validation ---

_Next: TypeAlias = Iterator[tuple[Validation, World]]
_Step: TypeAlias = Callable[[Model, World, Validation], _Next]


def _begin(model: Model, world: World, me: Validation) -> _Next:
    if not me.judged or (world.acknowledged is not None and world.time >= world.acknowledged + S):
        # No later step reads the time of the acknowledgment: fewer states.
        yield me._replace(at=_fast(model)), world._replace(acknowledged=NEVER) if me.judged else world


def _end(model: Model, world: World, me: Validation) -> _Next:
    yield from ()


def _fast(model: Model) -> str:
    return "fast now" if model.fault is not Fault.VERSION_BEFORE_FRESHNESS else "fast clean_version"


def _slow(me: Validation) -> Validation:
    return me._replace(at="slow times", now=0, elapsed=0, pointer=0, version=0)


def _fast_now(model: Model, world: World, me: Validation) -> _Next:
    yield (
        (_slow(me) if world.time >= model.expiry else me._replace(at="fast fresh_to", now=world.time)),
        world,
    )


def _fast_fresh_to(model: Model, world: World, me: Validation) -> _Next:
    yield (me._replace(at="fast elapsed", now=0) if me.now < world.fresh_to else _slow(me)), world


def _fast_elapsed(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="fast fresh_until", elapsed=world.time), world


def _fast_fresh_until(model: Model, world: World, me: Validation) -> _Next:
    if not me.elapsed < world.fresh_until:
        yield _slow(me), world
    elif model.fault is Fault.VERSION_BEFORE_FRESHNESS:
        yield _ended("accepted", world, me)
    else:
        yield me._replace(at="fast clean_version", elapsed=0), world


def _fast_clean_version(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="fast revocations", version=world.known.clean_version), world


def _fast_revocations(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="fast version", pointer=world.current), world


def _fast_version(model: Model, world: World, me: Validation) -> _Next:
    if world.sets[me.pointer].version != me.version:
        yield _slow(me), world
    elif model.fault is Fault.VERSION_BEFORE_FRESHNESS:
        yield me._replace(at="fast now", pointer=0, version=0), world
    else:
        yield _ended("accepted", world, me)


def _slow_times(model: Model, world: World, me: Validation) -> _Next:
    if world.time >= model.expiry:
        yield _ended("rejected", world, me)
    else:
        yield me._replace(at="slow revocations"), world


def _slow_revocations(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="slow version", pointer=world.current), world


def _slow_version(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="slow clean_version", pointer=0, version=world.sets[me.pointer].version), world


def _slow_clean_version(model: Model, world: World, me: Validation) -> _Next:
    clean = world.known.clean_version == me.version
    yield me._replace(at="slow now" if clean else "slow find"), world


def _slow_find(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="slow look-up", pointer=world.current), world


def _slow_look_up(model: Model, world: World, me: Validation) -> _Next:
    if world.sets[me.pointer].revoked:
        yield _ended("rejected", world, me)
    else:
        yield me._replace(at="slow now", pointer=0), world


def _slow_now(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="slow elapsed", now=world.time), world


def _slow_elapsed(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="slow fresh_to", elapsed=world.time), world


def _slow_fresh_to(model: Model, world: World, me: Validation) -> _Next:
    if me.now < world.fresh_to:
        yield me._replace(at="slow fresh_until"), world
    else:
        yield me._replace(at=_after_freshness(model), fresh=False), world


def _slow_fresh_until(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at=_after_freshness(model), fresh=me.elapsed < world.fresh_until), world


def _after_freshness(model: Model) -> str:
    return "slow revocations again" if model.fault is not Fault.FRESHNESS_LAST else "slow verdict"


def _slow_revocations_again(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="slow version again", pointer=world.current), world


def _slow_version_again(model: Model, world: World, me: Validation) -> _Next:
    if world.sets[me.pointer].version == me.version:
        yield me._replace(at="slow verdict", pointer=0), world
    else:
        again = me._replace(at="slow revocations", pointer=0, version=0, now=0, elapsed=0, fresh=False)
        yield again, world


def _slow_verdict(model: Model, world: World, me: Validation) -> _Next:
    if me.now >= model.expiry and model.fault is not Fault.TIMES_ONCE:
        yield _ended("rejected", world, me)
        return
    world = world._replace(known=world.known._replace(clean_version=me.version))
    yield _ended("accepted", world, me) if me.fresh else (me._replace(at="slow proof", version=0), world)


def _slow_proof(model: Model, world: World, me: Validation) -> _Next:
    if _holds(world.known.proof, me.now, me.elapsed):
        yield _ended("accepted", world, me)
    elif me.asked is not None:
        yield me._replace(at="settle now", now=0, elapsed=0), world
    else:
        yield _ask(model, world, me)


def _settle_now(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="settle elapsed", now=world.time), world


def _settle_elapsed(model: Model, world: World, me: Validation) -> _Next:
    if _holds(me.asked, me.now, world.time):
        yield _ended("accepted", world, me)
    else:
        yield _ask(model, world, me)


def _ask(model: Model, world: World, me: Validation) -> tuple[Validation, World]:
    if not model.max_flights or me.tries == 2:  # the code tries twice
        return _ended("rejected", world, me)
    own = (world.time, world.time) if model.fault is Fault.DATED_BY_JOINER else None
    return me._replace(at="settle asks", now=0, elapsed=0, tries=me.tries + 1, asked=own), world


def _settle_asks(model: Model, world: World, me: Validation) -> _Next:
    if world.under_way >= 0:
        yield me._replace(at="settle waits", flight=world.under_way), world
    elif len(world.flights) == model.max_flights:
        yield _ended("rejected", world, me)
    else:
        number = len(world.flights)
        world = world._replace(flights=(*world.flights, Flight()), under_way=number)
        yield me._replace(at="ask now", flight=number), world


def _ask_now(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="ask elapsed", now=world.time), world


def _ask_elapsed(model: Model, world: World, me: Validation) -> _Next:
    asked = me.now, world.time
    yield me._replace(at="ask service", now=0), _with_flight(world, me, asked=asked)


def _ask_service(model: Model, world: World, me: Validation) -> _Next:
    active = not world.committed and world.time < model.expiry
    yield me._replace(at="ask result"), _with_flight(world, me, active=active)


def _ask_result(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="ask ends"), _with_flight(world, me, done=True)


def _ask_ends(model: Model, world: World, me: Validation) -> _Next:
    yield me._replace(at="settle waits"), world._replace(under_way=-1)


def _settle_waits(model: Model, world: World, me: Validation) -> _Next:
    flight = world.flights[me.flight]
    if not flight.done:
        return
    if not flight.active:
        yield _ended("rejected", world, me)
        return
    asked = me.asked if model.fault is Fault.DATED_BY_JOINER else flight.asked
    world = world._replace(known=world.known._replace(proof=asked))
    yield me._replace(at=_fast(model), flight=-1, asked=asked), world


def _holds(asked: tuple[int, int] | None, now: int, elapsed: int) -> bool:
    return asked is not None and now - asked[0] < S and elapsed - asked[1] < S


def _ended(how: str, world: World, me: Validation) -> tuple[Validation, World]:
    return Validation("end"), world._replace(outcome=how) if me.judged else world


def _with_flight(world: World, me: Validation, **changes: Any) -> World:
    flights = list(world.flights)
    flights[me.flight] = flights[me.flight]._replace(**changes)
    return world._replace(flights=tuple(flights))


def _with_current(world: World, **changes: Any) -> World:
    sets = list(world.sets)
    sets[world.current] = sets[world.current]._replace(**changes)
    return world._replace(sets=tuple(sets))


def _add_entry(world: World) -> World:
    return _with_current(world, revoked=True)


def _change_version(world: World) -> World:
    return _with_current(world, version=max(revocations.version for revocations in world.sets) + 1)


STEPS: dict[str, _Step] = {
    "begin": _begin,
    "end": _end,
    "fast now": _fast_now,
    "fast fresh_to": _fast_fresh_to,
    "fast elapsed": _fast_elapsed,
    "fast fresh_until": _fast_fresh_until,
    "fast clean_version": _fast_clean_version,
    "fast revocations": _fast_revocations,
    "fast version": _fast_version,
    "slow times": _slow_times,
    "slow revocations": _slow_revocations,
    "slow version": _slow_version,
    "slow clean_version": _slow_clean_version,
    "slow find": _slow_find,
    "slow look-up": _slow_look_up,
    "slow now": _slow_now,
    "slow elapsed": _slow_elapsed,
    "slow fresh_to": _slow_fresh_to,
    "slow fresh_until": _slow_fresh_until,
    "slow revocations again": _slow_revocations_again,
    "slow version again": _slow_version_again,
    "slow verdict": _slow_verdict,
    "slow proof": _slow_proof,
    "settle now": _settle_now,
    "settle elapsed": _settle_elapsed,
    "settle asks": _settle_asks,
    "ask now": _ask_now,
    "ask elapsed": _ask_elapsed,
    "ask service": _ask_service,
    "ask result": _ask_result,
    "ask ends": _ask_ends,
    "settle waits": _settle_waits,
}

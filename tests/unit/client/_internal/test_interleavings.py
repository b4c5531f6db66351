"""A verdict needs the freshness that was valid when the set was read (docs/invariants.md).

The follower's steps are run at every point of a validation at which the interpreter could switch threads, and
with the process stopped there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.interleaving import Stopped, count_points, interleave, orders
from tests.support.token_mint import AUDIENCE
from tests.unit.client._internal.validator_site import ACCEPT_FOR, S, ValidatorSite
from token_service.client._internal.clock import Instant
from token_service.client._internal.explanation import explain
from token_service.client._internal.local import Answer, Known
from token_service.client.config import WhenStale
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError
from token_service.tokens.claims import VerifiedClaims

TARGETS = ("token_id", "known token_id", "session_id", "subject", "client_id", "key_id", "everything")


class Site(ValidatorSite):
    def check(self) -> Any:
        try:
            return self.parts.local.check(self.token, AUDIENCE, ())
        except InvalidTokenError as error:
            return error.reason


def seen(site: Site) -> None:
    """Cache the token as not revoked at the current version: the fast path."""
    assert isinstance(site.check(), VerifiedClaims)


def seen_before_another_entry(site: Site) -> None:
    seen(site)
    site.revoke_elsewhere()


def never_seen(site: Site) -> None:
    pass


PATHS = (seen, seen_before_another_entry, never_seen)


def stale_site(path: Callable[[Site], None], when_stale: tuple[WhenStale, ...] = (WhenStale.REJECT,)) -> Site:
    site = Site(when_stale=when_stale)
    path(site)
    site.clock.advance(S)
    assert isinstance(site.check(), Known) or path is never_seen
    if path is never_seen:
        site.parts.local.cache.clear()
    return site


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_a_proof_that_arrives_during_a_check_does_not_prove_its_verdict(
    path: Callable[[Site], None], target: str
) -> None:
    points = count_points(stale_site(path).check, opcodes=True)
    assert points > 40
    for point in range(points):
        site = stale_site(path)
        steps = (partial(site.revoke, target), site.prove)
        result = interleave(site.check, steps, (point, point), opcodes=True)
        assert result is InvalidReason.REVOKED or isinstance(result, Known), f"accepted: {point}"
        assert site.check() is InvalidReason.REVOKED


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("bring", [Site.revoke, Site.snapshot_with], ids=["entry", "snapshot"])
def test_entry_and_proof_at_any_two_lines_of_a_check(
    path: Callable[[Site], None], bring: Callable[[Site, str], None]
) -> None:
    points = count_points(stale_site(path).check)
    for order in orders(points, 2):
        site = stale_site(path)
        result = interleave(site.check, (partial(bring, site, "session_id"), site.prove), order)
        assert result is InvalidReason.REVOKED or isinstance(result, Known), f"accepted: {order}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_a_token_whose_entry_was_forgotten_during_a_check_is_not_accepted(
    path: Callable[[Site], None],
) -> None:
    def revoked_site() -> Site:
        site = Site()
        path(site)
        site.revoke("session_id")
        return site

    def sleep(site: Site) -> None:
        site.clock.advance(3600.0)
        site.follower_state.sweep()
        site.prove()

    points = count_points(revoked_site().check, opcodes=True)
    for point in range(points):
        site = revoked_site()
        result = interleave(site.check, (partial(sleep, site),), (point,), opcodes=True)
        assert result in {InvalidReason.REVOKED, InvalidReason.EXPIRED}, f"accepted: {point}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_accept_counts_from_the_proof_of_the_set_that_was_read(
    path: Callable[[Site], None],
) -> None:
    def old_site() -> Site:
        site = stale_site(path, (WhenStale.REMOTE, WhenStale.ACCEPT))
        site.clock.advance(ACCEPT_FOR)
        return site

    def settle(site: Site) -> object:
        result = site.check()
        if not isinstance(result, Known):
            return result
        steps = site.parts.local.settle(result, site.token, AUDIENCE, ())
        outcome = None
        try:
            while True:
                steps.send(outcome)  # the service does not answer
        except StopIteration as accepted:
            return accepted.value
        except InvalidTokenError as error:
            return error.reason
        except ReplicaStaleError as error:
            return error

    site = old_site()
    points = count_points(lambda: settle(site))
    for order in orders(points, 2):
        site = old_site()
        result = interleave(lambda: settle(site), (partial(site.revoke, "subject"), site.prove), order)  # noqa: B023
        assert result is InvalidReason.REVOKED or isinstance(result, ReplicaStaleError), f"accepted: {order}"


@pytest.mark.parametrize("target", TARGETS)
def test_explanation_describes_one_moment(target: str) -> None:
    def explained(site: Site) -> bool:
        return explain(site.parts, site.token, AUDIENCE, ()).accepted

    site = stale_site(never_seen)
    points = count_points(lambda: explained(site))
    for order in orders(points, 2) if target == "subject" else ((point, point) for point in range(points)):
        site = stale_site(never_seen)
        steps = (partial(site.revoke, target), site.prove)
        assert not interleave(lambda: explained(site), steps, order), f"accepted: {order}"  # noqa: B023


@pytest.mark.parametrize("path", [seen, never_seen], ids=lambda path: path.__name__)
def test_two_checks_that_share_a_cache_entry_accept_no_revoked_token(path: Callable[[Site], None]) -> None:
    points = count_points(stale_site(path).check)
    for first in range(points):
        for second in range(points):
            site = stale_site(path)
            other = Stopped(site.check, first)

            def steps(site: Site = site) -> None:
                site.revoke("session_id")
                site.prove()

            result = interleave(site.check, (steps,), (second,))
            for outcome in (result, other.finish(), site.check()):
                assert outcome is InvalidReason.REVOKED or isinstance(outcome, Known), f"{first}, {second}"


def test_answer_of_the_service_expires_s_after_its_question_in_every_validation() -> None:
    def settle(site: Site, answers: list[Answer]) -> object:
        result = site.check()
        if not isinstance(result, Known):
            return result
        steps = site.parts.local.settle(result, site.token, AUDIENCE, ())
        try:
            steps.send(None)
            while True:
                steps.send(answers.pop(0))
        except StopIteration as accepted:
            return accepted.value
        except InvalidTokenError as error:
            return error.reason

    def remote_site() -> tuple[Site, Answer]:
        site = stale_site(seen, (WhenStale.REMOTE,))
        return site, Answer(None, Instant.of(site.clock))

    site, active = remote_site()
    points = count_points(lambda: settle(site, [active]))
    assert points > 20
    revoked = InvalidReason.REVOKED
    for point in range(points):
        site, active = remote_site()
        # The service answers and then acknowledges a revocation. A validation that begins S later may not accept.

        def settled(site: Site = site, active: Answer = active) -> object:
            return settle(site, [active, Answer(revoked, Instant.of(site.clock))])

        other = Stopped(settled, point)
        site.clock.advance(S)
        joined = [active, Answer(revoked, Instant.of(site.clock))]
        assert settle(site, joined) is revoked, f"accepted while the other stood at {point}"
        other.finish()
        joined = [active, Answer(revoked, Instant.of(site.clock))]
        assert settle(site, joined) is revoked, f"accepted after the other stood at {point}"


def test_probe_proves_from_its_start_in_any_order_of_entry_and_answer() -> None:
    points = count_points(stale_site(seen).check)
    for order in orders(points, 2):
        for entry_first in (True, False):
            site = stale_site(seen)
            probe = site.follower_state.begin_probe()
            site.clock.advance(S)
            steps = [
                partial(site.revoke, "session_id"),
                partial(site.follower_state.answer, probe, "epoch-one:0"),
            ]
            result = interleave(site.check, steps if entry_first else steps[::-1], order)
            # The head was read S ago, before the revocation: the answer is too old to prove anything.
            assert result is InvalidReason.REVOKED or isinstance(result, Known), f"accepted: {order}"
            assert site.check() is InvalidReason.REVOKED

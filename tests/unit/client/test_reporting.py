"""Validators report their verdicts to the token service with their freshness probes."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from tests.support.both_validators import AnyValidator
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.released import released_message
from tests.unit.client.conftest import config_for
from token_service import __version__
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.report import ValidationReport
from token_service.errors import InvalidTokenError
from token_service.v1.token_service_pb2 import ConfirmRevocationsRequest


def refused_counts(request: Any) -> dict[str, int]:
    return {each.reason: each.count for each in request.refusals}


def test_report_has_only_the_counts_that_no_response_acknowledged():
    counters = Counters()
    report = ValidationReport(counters)
    counters.verified, counters.rejected["EXPIRED"] = 3, 1
    lost, repeated, later, last = (ConfirmRevocationsRequest() for _ in range(4))
    report.fill(lost)
    counters.verified, counters.rejected["REVOKED"] = 4, 2
    answered = report.fill(repeated)
    counters.verified = 6
    report.acknowledge(answered)
    report.acknowledge(report.fill(later))
    report.fill(last)
    assert (lost.validated, refused_counts(lost)) == (3, {"EXPIRED": 1})
    assert (repeated.validated, refused_counts(repeated)) == (4, {"EXPIRED": 1, "REVOKED": 2})
    assert (later.validated, refused_counts(later)) == (2, {})
    assert (last.validated, refused_counts(last)) == (0, {})


def test_counts_beyond_the_bound_go_with_the_next_report():
    counters = Counters()
    counters.verified, counters.rejected["EXPIRED"] = 1_000_000_001, 1_000_000_002
    report = ValidationReport(counters)
    first, second = ConfirmRevocationsRequest(), ConfirmRevocationsRequest()
    report.acknowledge(report.fill(first))
    report.fill(second)
    assert (first.validated, refused_counts(first)) == (1_000_000_000, {"EXPIRED": 1_000_000_000})
    assert (second.validated, refused_counts(second)) == (1, {"EXPIRED": 2})


async def test_refused_probes_lose_no_counts_and_a_restart_repeats_none(service: FakeTokenService, kind: str):
    now = time.time()
    validator = AnyValidator(kind, config_for(service, bound=60.0))
    async with validator:
        assert await validator.wait_ready()
        for number in range(3):
            await validator.validate(service.mint.token(now, jti=f"good-{number}"))
        for token in (service.mint.token(now, exp=int(now - 600)), "nonsense"):
            with pytest.raises(InvalidTokenError):
                await validator.validate(token)
        service.refuse_probes = True
        service.end_streams()  # the next stream brings a probe
        await eventually(lambda: sum(probe.validated == 4 for probe in service.probes) >= 2)
        service.refuse_probes = False
        await eventually(lambda: any(probe.validated == 4 for probe in service.answered_probes))
        service.end_streams()
        await eventually(lambda: service.answered_probes[-1].validated == 0)
    async with validator:
        seen = len(service.answered_probes)
        await eventually(lambda: len(service.answered_probes) > seen)
    assert {probe.client_version for probe in service.probes} == {f"python/{__version__}"}
    answered = service.answered_probes
    assert sum(probe.validated for probe in answered) == validator.counters.verified == 4
    counts = sum((Counter(refused_counts(probe)) for probe in answered), Counter())
    assert counts == validator.counters.rejected == {"EXPIRED": 1, "MALFORMED": 1}


async def test_released_service_ignores_the_report(service: FakeTokenService, kind: str):
    released = released_message("0.1.0", "ConfirmRevocationsRequest")
    async with AnyValidator(kind, config_for(service, bound=60.0)) as validator:
        assert await validator.wait_ready()
        await validator.validate(service.mint.token(time.time()))
        service.end_streams()
        await eventually(lambda: any(probe.validated == 1 for probe in service.probes))
        seen = len(service.probes)
        service.end_streams()
        await eventually(lambda: len(service.probes) > seen)
        assert validator.is_fresh
    sent = next(probe for probe in service.probes if probe.validated == 1)
    read = released.FromString(sent.SerializeToString())
    assert {field.name for field, _ in read.ListFields()} <= {
        "subscriber_id",
        "applied_cursor",
        "key_set_revision",
    }
    assert (read.subscriber_id, read.applied_cursor) == (sent.subscriber_id, sent.applied_cursor)

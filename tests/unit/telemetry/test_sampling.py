"""Which calls are traced."""

from __future__ import annotations

import pytest

from token_service.errors import ConfigurationError
from token_service.telemetry.sampling import Sampling
from token_service.telemetry.trace_context import TraceParent

SAMPLED, UNSAMPLED = TraceParent(1, 1, True), TraceParent(2**128 - 1, 1, False)
CALLS = 4000


def sampler(name: str = "", argument: str = "", *, trusts_callers: bool = False) -> Sampling:
    environ = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    return Sampling.of(environ, trusts_callers=trusts_callers)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", [True, True, False]),
        ("parentbased_always_on", [True, True, False]),
        ("PARENTBASED_ALWAYS_OFF", [False, True, False]),
        ("always_on", [True, True, True]),
        ("always_off", [False, False, False]),
        (" parentbased_traceidratio ", [True, True, False]),
    ],
)
def test_trusted_callers_decide_as_in_the_sdk(name: str, expected: list[bool]) -> None:
    sampling = sampler(name, trusts_callers=True)
    assert [sampling.samples(parent) for parent in (None, SAMPLED, UNSAMPLED)] == expected


def test_trusted_trace_ids_are_compared_with_the_ratio() -> None:
    sampling = sampler("traceidratio", "0.5", trusts_callers=True)
    assert sampling.samples(TraceParent(2**63 - 1, 1, False))
    assert not sampling.samples(TraceParent(2**63, 1, True))


@pytest.mark.parametrize("name", ["parentbased_traceidratio", "traceidratio"])
@pytest.mark.parametrize("parent", [None, SAMPLED])
def test_strangers_do_not_raise_the_ratio(name: str, parent: TraceParent | None) -> None:
    sampling = sampler(name, "0.01")
    found = sum(sampling.samples(parent) for _ in range(CALLS))
    assert 1 <= found < CALLS * 0.03  # 40 expected, standard deviation 6.3


def test_strangers_do_not_turn_sampling_on() -> None:
    assert not sampler("parentbased_always_off").samples(SAMPLED)


def test_strangers_may_ask_for_no_trace() -> None:
    assert not sampler("parentbased_always_on").samples(UNSAMPLED)
    assert sampler("always_on").samples(UNSAMPLED)


@pytest.mark.parametrize("name", ["always", "jaeger_remote", "parentbased_", "ratio"])
def test_unknown_sampler_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"OTEL_TRACES_SAMPLER is '{name}'.*parentbased_traceidratio"
    ):
        sampler(name)


@pytest.mark.parametrize("argument", ["1%", "-0.1", "1.1", "nan", "inf", "one"])
def test_unusable_ratio_is_refused(argument: str) -> None:
    with pytest.raises(ConfigurationError, match="OTEL_TRACES_SAMPLER_ARG is"):
        sampler("parentbased_traceidratio", argument)
    sampler("always_on", argument)  # not read

"""The decision which calls are traced, from the environment variables of OpenTelemetry."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from token_service.errors import ConfigurationError
from token_service.telemetry.trace_context import TraceParent

_PARENT_BASED: Final = "parentbased_"
_RATIO: Final = "traceidratio"
_FIXED: Final = {"always_on": 1.0, "always_off": 0.0}
_BASES: Final = (*_FIXED, _RATIO)
_ALLOWED: Final = ", ".join(prefix + base for prefix in ("", _PARENT_BASED) for base in _BASES)
_LOW: Final = 2**64


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sampler with the meaning that the variables have for OpenTelemetry's SDK, and a limit for callers.

    The SDK compares the trace id with the ratio, and the caller chooses the trace id. Unless callers are trusted, the
    ratio is therefore drawn by lot for each call.
    """

    ratio: float
    follows_parent: bool
    trusts_callers: bool
    """Whether a caller's flag or trace id may cause more traces than the ratio."""

    @classmethod
    def of(cls, environ: Mapping[str, str], *, trusts_callers: bool) -> Self:
        """Read `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`. Raises `ConfigurationError`."""
        name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        base = name.removeprefix(_PARENT_BASED)
        if base not in _BASES:
            raise ConfigurationError(
                f"OTEL_TRACES_SAMPLER is {name!r}, which is no sampler; set one of {_ALLOWED}"
            )
        ratio = _FIXED[base] if base in _FIXED else _ratio(environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
        return cls(ratio, name != base, trusts_callers)

    def samples(self, parent: TraceParent | None) -> bool:
        """Return whether to trace a call with this parent."""
        if parent is not None:
            if self.follows_parent and not parent.is_sampled:
                return False
            if self.trusts_callers:
                return self.follows_parent or parent.trace_id % _LOW < round(self.ratio * _LOW)
        return random.random() < self.ratio  # noqa: S311 - protects no secret


def _ratio(text: str) -> float:
    try:
        ratio = float(text or "1")
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigurationError(
            f"OTEL_TRACES_SAMPLER_ARG is {text!r}; set the share of the calls to trace, from 0 to 1, such as 0.01"
        )
    return ratio

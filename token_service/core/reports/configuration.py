"""The settings in effect at a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting in effect. Secrets are redacted."""

    name: str
    """The variable."""
    value: str
    source: str
    """`default`, `environment`, `file`, or `flag` and the flag."""
    reloadable: bool
    """Whether a reload changes it. Others need a restart."""
    pending: str = ""
    """The value of the sources, if it differs and needs a restart."""


@dataclass(frozen=True, slots=True)
class EffectiveConfiguration:
    """The settings of a node, and its last reload."""

    node_id: str = ""
    settings: Sequence[EffectiveSetting] = ()
    reload_time: float | None = None
    """Time of the last reload that found a change; None: none since the start."""
    reload_problem: str = ""
    """Why the last reload failed. Empty: it did not."""


class ConfigurationReports:
    """Shows operators the settings of this node."""

    def __init__(self, effective: Callable[[], EffectiveConfiguration]) -> None:
        self._effective = effective

    def get(self, caller: Caller) -> EffectiveConfiguration:
        """Return the settings in effect. Raises `PermissionDeniedError`."""
        admit(caller, UseCase.GET_EFFECTIVE_CONFIGURATION)
        return self._effective()

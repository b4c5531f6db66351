"""The rules and the databases of addresses that the commands judge by."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from token_service.config.policy_file import PolicyFile
from token_service.core.risk.rules import parse_risk_rules
from token_service.errors import ConfigurationError

if TYPE_CHECKING:
    from token_service.config.policy_file import PolicyDocument
    from token_service.core.risk.rules import RiskRules

_RECOMMENDED: Final = "recommended.toml"

Option: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]
rules_option: Final[Option] = click.option(
    "--rules",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A policy file with the rules in `[risk]`.",
)


def recommended_text() -> str:
    """Return the rules that docs/risk.md recommends and measures."""
    return (files("token_service.cli.risk") / _RECOMMENDED).read_text()


def recommended() -> RiskRules:
    """Return the recommended rules."""
    return parse_risk_rules(tomllib.loads(recommended_text()))


def read_document(path: Path) -> PolicyDocument:
    """Read a policy file with rules. Raises `ConfigurationError`, also if it has none."""
    document = PolicyFile(path, {}).load()
    if not document.risk:
        raise ConfigurationError(
            f"{path} has no rules about risk: add tables such as [risk.rules.new_country], or take the recommended rules "
            "from `token-service risk rates --show-rules`"
        )
    return document

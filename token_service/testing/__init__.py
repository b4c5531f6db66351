"""Tests of services that accept tokens: an issuer of good and flawed tokens, and a whole token service in the process.

    with FakeIssuer() as issuer, issuer.validator(audience="api") as validator:
        token = issuer.access_token(subject="alice", scopes=["orders:read"])
        assert validator.validate(token).subject == "alice"
        issuer.revoke(token=token)
        with pytest.raises(InvalidTokenError):
            validator.validate(token)

`FakeIssuer` needs nothing but the base installation. `TokenServiceInProcess` needs the extra `[server]`. The fixtures of
`token_service.testing.pytest_plugin` are used after `pytest_plugins = ["token_service.testing.pytest_plugin"]`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from token_service.testing.flaws import Flaw
    from token_service.testing.issuer import FakeIssuer
    from token_service.testing.service import TokenServiceInProcess
    from token_service.testing.tokens import TokenMaker

_MODULE_OF = {
    "FakeIssuer": "issuer",
    "Flaw": "flaws",
    "TokenMaker": "tokens",
    "TokenServiceInProcess": "service",
}

__all__ = ["FakeIssuer", "Flaw", "TokenMaker", "TokenServiceInProcess"]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value

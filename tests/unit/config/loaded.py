"""Settings loaded from an environment alone."""

from __future__ import annotations

import pytest

from token_service.config import Settings, load_settings
from token_service.errors import ConfigurationError

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def env(**values: object) -> dict[str, str]:
    return {f"TOKEN_SERVICE_{name}": str(value) for name, value in values.items()}


def load(**values: object) -> Settings:
    return load_settings({}, env(**values))


def refusal(**values: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(**values)
    return caught.value.message

"""The token service in the process of a test."""

from __future__ import annotations

import pytest

from token_service.errors import ConfigurationError
from token_service.testing import TokenServiceInProcess


def test_wrong_setting_is_reported_by_the_start() -> None:
    service = TokenServiceInProcess({"max_streams": "many"})
    with pytest.raises(ConfigurationError, match="MAX_STREAMS"):
        service.start()

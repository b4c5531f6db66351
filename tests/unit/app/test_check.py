"""`token-service config --check` and the start refuse the same settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.loaded import load
from token_service.app.access import Access
from token_service.app.check import check
from token_service.clock import SystemClock
from token_service.errors import ConfigurationError


async def test_classification_of_described_clients_must_be_one_of_the_policy_file(tmp_path: Path) -> None:
    policies = tmp_path / "policies.toml"
    policies.write_text("[classifications.strangers]\naccess_token_ttl = 60\n")

    def settings(classification: str) -> dict[str, object]:
        return {
            "DATA_DIR": tmp_path / "data",
            "GRPC_ADDRESS": "127.0.0.1:0",
            "HTTP_ADDRESS": "127.0.0.1:0",
            "POLICY_FILE": policies,
            "CLIENT_METADATA_DOCUMENTS": "true",
            "CLIENT_METADATA_DOCUMENT_CLASSIFICATION": classification,
        }

    good, wrong = load(**settings("strangers")), load(**settings("stranger"))
    await check(good, {})
    Access(good, {}, SystemClock())
    with pytest.raises(ConfigurationError, match=r"DOCUMENT_CLASSIFICATION is stranger; .*strangers"):
        await check(wrong, {})
    with pytest.raises(ConfigurationError, match="DOCUMENT_CLASSIFICATION is stranger"):
        Access(wrong, {}, SystemClock())


async def test_unusable_file_of_the_pairwise_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairwise.key"
    path.write_text("no key")
    settings = load(DATA_DIR=tmp_path / "data", HTTP_ADDRESS="127.0.0.1:0", PAIRWISE_KEY_FILE=path)
    with pytest.raises(ConfigurationError, match="PAIRWISE_KEY_FILE"):
        await check(settings, {})


async def test_unusable_sampler_is_refused(tmp_path: Path) -> None:
    settings = load(DATA_DIR=tmp_path / "data", GRPC_ADDRESS="127.0.0.1:0", HTTP_ADDRESS="127.0.0.1:0")
    with pytest.raises(ConfigurationError, match="OTEL_TRACES_SAMPLER is 'sometimes'"):
        await check(settings, {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "sometimes"})

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.loaded import KEY, load, refusal
from token_service.config import Address, UnixSocket
from token_service.tokens.algorithms import Algorithm


def test_workers_can_not_share_a_unix_socket() -> None:
    assert "workers can't share" in refusal(GRPC_ADDRESS="unix:/run/a", WORKERS="2")
    assert load(GRPC_ADDRESS="unix:/run/a").grpc_address == UnixSocket(Path("/run/a"))


def test_a_complete_production_configuration_is_accepted(production: dict[str, object]) -> None:
    settings = load(**production)
    assert settings.is_production
    assert not settings.uses_sqlite
    assert load(**{**production, "HTTP_TLS": "", "TRUSTED_PROXIES": "10.0.0.1"}).trusted_proxies


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"TLS_CERT_FILE": "", "TLS_KEY_FILE": "", "TLS_CLIENT_CA_FILE": ""},
            "set TOKEN_SERVICE_TLS_CERT_FILE",
        ),
        ({"TLS_CLIENT_CA_FILE": ""}, "set TOKEN_SERVICE_TLS_CLIENT_CA_FILE"),
        ({"HTTP_TLS": ""}, "set TOKEN_SERVICE_HTTP_TLS=true, or TOKEN_SERVICE_TRUSTED_PROXIES"),
        ({"KEY_ENCRYPTION_KEY_FILE": ""}, "set TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE"),
        ({"AUDIT_KEY_FILE": ""}, "openssl rand -base64 32 > audit.key"),
        ({"DATABASE_URL": ""}, "set TOKEN_SERVICE_DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:////var/t.db", "REDIS_URL": "redis://cache"}, "which nodes can't share"),
        ({"ISSUER": ""}, "set TOKEN_SERVICE_ISSUER"),
        ({"ISSUER": "http://tokens.example"}, "an https URL"),
        ({"SIGNING_ALGORITHM": "HS256"}, "TOKEN_SERVICE_ALLOW_HS256=true"),
    ],
)
def test_production_refuses_unsafe_settings_and_names_the_remedy(
    production: dict[str, object], change: dict[str, str], says: str
) -> None:
    assert says in refusal(**{**production, **change})


@pytest.mark.parametrize(
    "address", ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051", "tokens.example:50051"]
)
def test_development_is_refused_off_loopback(address: str) -> None:
    for name in ("GRPC_ADDRESS", "HTTP_ADDRESS"):
        message = refusal(**{name: address})
        assert f"TOKEN_SERVICE_{name} is {address}" in message
        assert "TOKEN_SERVICE_PROFILE=production" in message
    settings = load(GRPC_ADDRESS="localhost:1", HTTP_ADDRESS="[::1]:1")
    assert (settings.grpc_address, settings.http_address) == (Address("localhost", 1), Address("::1", 1))


def test_contradictions_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "both set" in refusal(KEY_ENCRYPTION_KEY=KEY, KEY_ENCRYPTION_KEY_FILE=file)
    assert "both set" in refusal(PAIRWISE_KEY=KEY, PAIRWISE_KEY_FILE=file)
    for name in ("HOSTS", "SCOPES", "CLASSIFICATION"):
        one = {f"CLIENT_METADATA_DOCUMENT_{name}": "app.example"}
        assert "CLIENT_METADATA_DOCUMENTS=true" in refusal(**one)
        assert load(**one, CLIENT_METADATA_DOCUMENTS="true").client_metadata_documents
    assert "both or neither" in refusal(TLS_CERT_FILE=file)
    assert "without a server certificate" in refusal(TLS_CLIENT_CA_FILE=file)
    assert "set TOKEN_SERVICE_TLS_CERT_FILE" in refusal(HTTP_TLS="true")
    assert "set TOKEN_SERVICE_TRUSTED_PROXIES" in refusal(PROXY_CLIENT_CERT="true")
    proxied = {"PROXY_CLIENT_CERT": "true", "TRUSTED_PROXIES": "10.0.0.1"}
    assert "set TOKEN_SERVICE_TLS_CLIENT_CA_FILE" in refusal(**proxied)
    assert "two ports" in refusal(GRPC_ADDRESS="127.0.0.1:1", HTTP_ADDRESS="127.0.0.1:1")
    settings = load(GRPC_ADDRESS="127.0.0.1:0", HTTP_ADDRESS="127.0.0.1:0")
    assert settings.grpc_address == settings.http_address == Address("127.0.0.1", 0)
    assert "ALLOW_HS256" in refusal(SIGNING_ALGORITHM="HS256")
    assert load(SIGNING_ALGORITHM="HS256", ALLOW_HS256="true").signing_algorithm is Algorithm.HS256
    fapi = {"MINIMUM_SECURITY_PROFILE": "fapi2"}
    assert "set TOKEN_SERVICE_SIGNING_ALGORITHM to PS256, ES256, EdDSA" in refusal(**fapi)
    for algorithm in ("PS256", "ES256", "EdDSA"):
        assert load(**fapi, SIGNING_ALGORITHM=algorithm).minimum_security_profile == "fapi2"


def test_settings_of_redis_must_fit_together(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    pair = {"REDIS_TLS_CERT_FILE": file, "REDIS_TLS_KEY_FILE": file}
    assert load(
        REDIS_URL="rediss+cluster://a,b", REDIS_PASSWORD="p", REDIS_TLS_CA_FILE=file, **pair
    ).redis_url
    assert "without TLS; write it with rediss" in refusal(REDIS_URL="redis://a", REDIS_TLS_CA_FILE=file)
    assert "REDIS_URL is not set, without TLS" in refusal(**pair)
    assert "both or neither" in refusal(REDIS_URL="rediss://a", REDIS_TLS_CERT_FILE=file)
    assert "REDIS_PASSWORD is set without TOKEN_SERVICE_REDIS_URL" in refusal(REDIS_PASSWORD="hunter2")
    message = refusal(REDIS_URL="redis://:hunter2@a", REDIS_PASSWORD="hunter3")
    assert "REDIS_URL has a password, and TOKEN_SERVICE_REDIS_PASSWORD is set, too" in message
    assert "hunter" not in message

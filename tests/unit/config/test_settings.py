from __future__ import annotations

from dataclasses import fields

from tests.unit.config.loaded import KEY, load
from token_service.config import SETTINGS, Address, Settings


def test_the_issuer_that_is_not_set_follows_the_http_address() -> None:
    assert load().issuer == "http://127.0.0.1:8080"
    settings = load(HTTP_ADDRESS="[::1]:0")
    assert settings.issuer == "http://[::1]:0"
    bound = settings.listening(settings.grpc_address, Address("::1", 1234))
    assert (bound.issuer, str(bound.http_address)) == ("http://[::1]:1234", "[::1]:1234")
    secure = load(HTTP_TLS="true", TLS_CERT_FILE=__file__, TLS_KEY_FILE=__file__)
    assert secure.issuer == "https://127.0.0.1:8080"
    assert secure.listening(secure.grpc_address, Address("::1", 1)).issuer == "https://[::1]:1"
    settings = load(HTTP_ADDRESS="localhost:0", ISSUER="http://issuer.example")
    bound = settings.listening(Address("127.0.0.1", 1), Address("localhost", 2))
    assert bound.issuer == "http://issuer.example"
    assert (str(bound.grpc_address), str(bound.http_address)) == ("127.0.0.1:1", "localhost:2")


def test_no_secret_is_in_the_repr(production: dict[str, object]) -> None:
    del production["KEY_ENCRYPTION_KEY_FILE"]
    production["REDIS_URL"] = "redis://:hunter2@cache"
    settings = load(**production, KEY_ENCRYPTION_KEY=f"{KEY},{KEY}")
    assert len(settings.key_encryption_key) == 2
    assert settings.key_encryption_key[0].reveal() == b"0123456789abcdef" * 2
    for text in (repr(settings), str(settings), str(settings.database_url), repr(settings.redis_url)):
        assert "secret@" not in text
        assert "hunter2" not in text
        assert KEY not in text
        assert "0123456789abcdef" not in text
    assert str(settings.database_url) == "postgresql://service:***@db/tokens"
    odd = load(DATABASE_URL="postgresql://db/tokens?user=me;password=hunter2&application_name=token-service")
    assert str(odd.database_url) == "postgresql://db/tokens?user=***&application_name=token-service"


def test_the_table_is_complete_and_its_defaults_are_valid() -> None:
    names = [setting.name for setting in SETTINGS]
    internal = {"reuse_port", "flags", "sources", "warnings"}
    assert names == [field.name for field in fields(Settings) if field.name not in internal]
    for setting in SETTINGS:
        assert setting.help.endswith(".")
        assert setting.allowed
        assert setting.default_help
        if setting.default is not None:
            setting.parse(setting.default)

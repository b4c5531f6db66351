from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from token_service.bff import (
    BffConfig,
    ClientSecretBasic,
    PrivateKeyJwt,
    Provider,
    ProviderLogout,
    RequestRules,
    SessionRules,
)
from token_service.errors import ConfigurationError
from token_service.tokens.secret import Secret

KEY = Secret(b"k" * 32)
CLIENT = ClientSecretBasic("web", Secret(b"secret"))


def provider(**changes: Any) -> Provider:
    return Provider(**{"issuer": "https://id.test", "client": CLIENT, **changes})


def config(**changes: Any) -> BffConfig:
    given = {
        "public_url": "https://app.test",
        "provider": provider(),
        "keys": {1: KEY},
        "active_key": 1,
        "logout": ProviderLogout.REVOKE,
        **changes,
    }
    return BffConfig(**given)


def test_uris_to_register_come_from_the_configuration() -> None:
    made = config(prefix="/bff", after_logout="/bye")
    assert made.redirect_uri == "https://app.test/bff/callback"
    assert made.post_logout_redirect_uri == "https://app.test/bye"


@pytest.mark.parametrize(
    "url", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080", "https://a.test:8443"]
)
def test_loopback_may_do_without_tls(url: str) -> None:
    assert config(public_url=url).public_url == url


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"public_url": "http://app.test"}, "public_url must be an https URL"),
        ({"public_url": "https://app.test/"}, "must be an origin"),
        ({"public_url": "https://app.test/shop"}, "must be an origin"),
        ({"public_url": "https://user@app.test"}, "public_url must be an https URL"),
        ({"public_url": "https://[::1"}, "public_url must be an https URL"),
        ({"prefix": "/auth/"}, "prefix must be a plain path"),
        ({"prefix": "auth"}, "prefix must be a plain path"),
        ({"after_logout": "//evil.test"}, "after_logout must be a plain path"),
        ({"keys": {}}, "active_key is not a version"),
        ({"active_key": 2}, "active_key is not a version"),
        ({"keys": {1: Secret(b"short")}}, "less than 32 bytes"),
        ({"keys": {1: KEY, 70000: KEY}}, "between 0 and 65535"),
    ],
)
def test_unusable_configuration_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"issuer": "http://id.test"}, "issuer must be an https URL"),
        ({"issuer": "https://id.test?x=1"}, "issuer must be an https URL"),
        ({"scopes": ["profile"]}, "must contain openid"),
        ({"parameters": {"state": "mine"}}, "must not contain state"),
        ({"timeout": 0}, "timeout must be between"),
    ],
)
def test_unusable_provider_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        provider(**changes)


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        (SessionRules, {"idle_timeout": 1}, "idle_timeout must be between"),
        (SessionRules, {"idle_timeout": 100, "absolute_timeout": 50}, "absolute_timeout must be between"),
        (SessionRules, {"per_user": 0}, "per_user must be between"),
        (SessionRules, {"claims": "sub"}, "must be a collection"),
        (RequestRules, {"cookie": "a;b"}, "cookie must have"),
        (RequestRules, {"csrf_header": "X CSRF"}, "csrf_header must be the name"),
        (RequestRules, {"cross_origin_paths": ["/a/../b"]}, "is not a plain path"),
    ],
)
def test_unusable_rules_are_refused(kind: Any, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        kind(**changes)


def test_weak_client_key_is_refused() -> None:
    with pytest.raises(ValueError, match="RSA key must have"):
        PrivateKeyJwt("web", rsa.generate_private_key(65537, 1024), "key-1")

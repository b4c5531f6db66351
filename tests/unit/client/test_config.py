from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, strategies as st

from token_service.client._internal.channel import is_local, open_channel, open_sync_channel
from token_service.client.config import (
    Backoff,
    ForeignIssuer,
    Freshness,
    ServiceIssuer,
    ValidatorConfig,
    WarmStart,
)
from token_service.errors import ConfigurationError
from token_service.tokens.secret import Secret

ISSUER = ServiceIssuer(issuer="https://i.test")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ValidatorConfig(issuers=[], audience="a"), "issuers"),
        (lambda: ValidatorConfig(issuers=[ISSUER, ISSUER], audience="a"), "twice"),
        (
            lambda: ValidatorConfig(issuers=[ISSUER, ServiceIssuer(issuer="https://j.test")], audience="a"),
            "one ServiceIssuer",
        ),
        (lambda: ValidatorConfig(issuers=[ISSUER], audience=""), "audience"),
        (lambda: ValidatorConfig(issuers=[ISSUER], audience="a", leeway=301), "leeway is 301"),
        (lambda: ValidatorConfig(issuers=[ISSUER], audience="a", leeway=-1), "leeway"),
        (lambda: ValidatorConfig(issuers=[ISSUER], audience="a", cache_age=301), "cache_age"),
        (lambda: ValidatorConfig(issuers=[ISSUER], audience="a", cache_capacity=0), "cache_capacity"),
        (lambda: ServiceIssuer(issuer=""), "issuer"),
        (lambda: ServiceIssuer(issuer="i", subscriber_id="x" * 129), "subscriber_id"),
        (lambda: ServiceIssuer(issuer="i", max_remote_calls=0), "max_remote_calls"),
        (lambda: Freshness(bound=0), "bound"),
        (lambda: Freshness(bound=float("nan")), "bound"),
        (lambda: Freshness(bound=1, probe_timeout=2), "probe_timeout"),
        (lambda: Backoff(initial=2, longest=1), "longest"),
        (lambda: ForeignIssuer(issuer="i", jwks_url="http://keys.test/jwks"), "https"),
        (lambda: ForeignIssuer(issuer="i", jwks_url="http://127.0.0.1.evil.test/jwks"), "https"),
        (lambda: ForeignIssuer(issuer="i", jwks_url="http://localhost@evil.test/jwks"), "https"),
        (lambda: ForeignIssuer(issuer="i", jwks_url="file:///etc/passwd"), "https"),
        (lambda: WarmStart(path=Path("x"), mac_key=Secret(b"short")), "mac_key"),
    ],
)
def test_invalid_setting_is_refused_by_name(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://tokens.internal:50051", "dns:///tokens.internal:50051"),
        ("https://tokens.internal:50051/", "dns:///tokens.internal:50051"),
        ("HTTPS://tokens.internal", "dns:///tokens.internal:PORT"),
        ("grpc://10.0.0.1:50051", "dns:///10.0.0.1:50051"),
        ("grpcs://[::1]:50051", "dns:///[::1]:50051"),
        ("http://[::1]", "dns:///[::1]:PORT"),
        ("http://", "dns:///HOST:PORT"),
        ("http://[broken", "dns:///HOST:PORT"),
    ],
)
def test_a_url_as_target_is_refused_with_what_to_write_instead(url: str, target: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match=re.escape(f"ServiceIssuer.target is a gRPC target, not a URL: write '{target}'"),
    ):
        ServiceIssuer(issuer="i", target=url)


def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ServiceIssuer(issuer="i", target="http://user:hidden@tokens:1/path")
    assert "dns:///tokens:1" in caught.value.message
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    "target",
    [
        "",
        "tokens:50051",
        "http:50051",
        "dns:///tokens:50051",
        "dns://10.0.0.53/tokens:50051",
        "ipv4:10.0.0.1:1,10.0.0.2:1",
        "unix:///run/tokens.sock",
        "xds:///tokens",
    ],
)
def test_every_target_of_grpc_is_allowed(target: str) -> None:
    assert ServiceIssuer(issuer="i", target=target).target == target


@pytest.mark.parametrize("name", ["https://tokens.test", "tokens.test:50051", "a.test,b.test", "a b"])
def test_a_server_name_is_a_host_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ServiceIssuer\.server_name"):
        ServiceIssuer(issuer="i", server_name=name)


def test_valid_settings_are_accepted() -> None:
    ForeignIssuer(issuer="i", jwks_url="https://keys.test/jwks")
    ForeignIssuer(issuer="i", jwks_url="http://127.0.0.1:8080/jwks")
    ForeignIssuer(issuer="i", jwks_url="internal:keys", fetch=lambda _url, _timeout: b"")


@given(st.integers(0, 200), st.floats(0, 1, exclude_max=True))
def test_backoff_is_random_and_bounded(attempt: int, random: float) -> None:
    delay = Backoff(initial=0.2, longest=10).delay(attempt, random)
    assert min(10, 0.2 * 2.0 ** min(attempt, 30)) / 2 <= delay < 10.0001


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("dns:///localhost:50051", True),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", True),
        ("ipv6:[::1]:50051", True),
        ("unix:/run/tokens.sock", True),
        ("unix-abstract:tokens", True),
        ("tokens.internal:50051", False),
        ("dns:///tokens.internal:50051", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("127.0.0.1.evil.test:50051", False),
        ("dns://127.0.0.1:53/evil.test:50051", False),
        ("xds:///tokens", False),
        ("localhost", False),
    ],
)
def test_only_local_targets_may_go_without_tls(target: str, local: bool) -> None:  # noqa: FBT001
    assert is_local(target) is local


@pytest.mark.parametrize(
    ("target", "direct"), [("127.0.0.1:1", True), ("unix:/x", True), ("tokens:1", False)]
)
def test_channel_to_this_machine_uses_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    direct: bool,  # noqa: FBT001
) -> None:
    found: list[Any] = []

    def note(*_: Any, options: Any) -> None:
        found.append(dict(options).get("grpc.enable_http_proxy", 1) == 0)

    for module in (grpc, grpc.aio):
        monkeypatch.setattr(module, "secure_channel", note)
        monkeypatch.setattr(module, "insecure_channel", note)
    for name in ("", "tokens.example"):
        issuer = ServiceIssuer(issuer="i", target=target, server_name=name)
        open_sync_channel(issuer, None)
        open_channel(issuer, None)
    assert found == [direct] * 4


def test_given_credentials_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def channel(name: str) -> Any:
        return lambda *_, **__: made.append(name)

    monkeypatch.setattr(grpc, "secure_channel", channel("secure"))
    monkeypatch.setattr(grpc, "insecure_channel", channel("insecure"))
    open_sync_channel(ServiceIssuer(issuer="i", target="127.0.0.1:1"), None)
    open_sync_channel(ServiceIssuer(issuer="i", target="tokens:1"), None)
    open_sync_channel(
        ServiceIssuer(issuer="i", target="127.0.0.1:1", credentials=grpc.ssl_channel_credentials()), None
    )
    assert made == ["insecure", "secure", "secure"]

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.gateway.conftest import minimal
from token_service.client.config import ForeignIssuer, ServiceIssuer
from token_service.errors import ConfigurationError
from token_service.gateway.loading import load
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind

Write = Callable[[str], Path]


def test_settings_of_issuers(write: Write) -> None:
    loaded = load(
        write("""
            [listen]
            http = "127.0.0.1:0"
            [issuer]
            issuer = "https://tokens.example"
            target = "dns:///tokens:50051"
            roots = "roots.pem"
            subscriber_id = "edge-1"
            algorithms = ["ES256"]
            freshness_bound = 1.0
            [[foreign_issuers]]
            issuer = "https://other.example"
            jwks_url = "https://other.example/jwks"
            plain_type_is_access = true
            type_required = false
            [tokens]
            any_audience = true
            leeway = 5
            """)
    )
    config = loaded.validator
    own, foreign = config.issuers
    assert isinstance(own, ServiceIssuer)
    assert isinstance(foreign, ForeignIssuer)
    assert (own.subscriber_id, own.freshness.bound) == ("edge-1", 1.0)
    assert own.algorithms == frozenset({Algorithm.ES256})
    assert own.credentials.roots == Path(write("")).parent / "roots.pem"  # type: ignore[union-attr]
    assert (foreign.plain_kind, foreign.typ_required) == (TokenKind.ACCESS, False)
    assert (config.audience, config.leeway) == (None, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "Expected"),
        (minimal("[nonsense]"), "unknown field `nonsense`"),
        (minimal("audiences = 1"), "unknown field `audiences`"),
        (minimal("leeway = -1"), "$.tokens.leeway"),
        (minimal("[routes.a]\nscope = []"), "unknown field `scope`"),
        (minimal("[routes.a]\nscopes = ['a b']"), "routes.a: 'a b' has characters"),
        (
            minimal("[routes.a]\npublic = true\nscopes = ['a']"),
            "routes.a: a public route can't have requirements",
        ),
        (
            minimal("[routes.a]\nissuer = 'https://b'"),
            "routes.a: issuer 'https://b' is none of the configured",
        ),
        (minimal("[routes.'a b']"), "$.routes"),
        (minimal("[http.requirement_headers]\nscope = 'x-scope'"), "'scope' is no key"),
        (minimal("[http]\nuri_header = 'X-Uri'"), "$.http.uri_header"),
        (minimal("[proofs]\nclient_certificate = 'escaped-pem'"), "needs certificate_header"),
        (minimal("[proofs]\ncertificate_header = 'x-cert'"), "has no use"),
        (minimal("[proofs]\norigin = 'https://a.example/'"), "proofs.origin must be"),
        (minimal("[proofs]\norigin = 'https://a.example'\nnonce_keys = 'missing'"), "can't read"),
        (minimal("[resource]\nresource = 'http://a.example'"), "must be an https URL"),
        (minimal("[proofs]\nnonce_keys = 'gateway.toml'"), "set proofs.origin, too"),
        (minimal("[proofs]\norigin = 'https://a.example'\ntrust_host = true"), "contradict each other"),
        (minimal("[resource]\nresource = 'https://a.example/?b'"), "has a query or a fragment"),
        (minimal("[responses]\nrealm = 'a\"b'"), "responses.realm must be"),
        (minimal("[responses]\nhttp_unavailable = 200"), "$.responses.http_unavailable"),
        (minimal("any_audience = true"), "contradict each other"),
        (minimal().replace("audience", "#"), "tokens.audience is missing"),
        (minimal().replace("grpc", "#"), "neither `grpc` nor `http`"),
        (minimal().replace("[issuer]", '[issuer]\nalgorithms = ["none"]'), "algorithms: 'none'"),
        ('[listen]\nhttp = "127.0.0.1:0"\n[tokens]\naudience = "a"', "at least one issuer"),
        ("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), ""),
    ],
)
def test_error_names_the_setting(write: Write, text: str, said: str) -> None:
    path = write(text)
    with pytest.raises(ConfigurationError) as raised:
        load(path)
    assert said in raised.value.message
    assert str(path) in raised.value.message or "can't read" in said


@pytest.mark.parametrize("content", ["", "ab", "zz" * 32, "ab" * 31, "ab" * 32 + "\nab\n"])
def test_key_file_without_good_keys(write: Write, tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").write_text(content)
    with pytest.raises(ConfigurationError, match="openssl rand -hex 32") as raised:
        load(write(minimal("[proofs]\norigin = 'https://a.example'\nnonce_keys = 'keys'")))
    assert "zz" not in raised.value.message


def test_digest_changes_with_the_file_and_with_its_keys(write: Write, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ab" * 32)
    path = write(minimal("[proofs]\norigin = 'https://a.example'\nnonce_keys = 'keys'"))
    first = load(path).digest
    assert load(path).digest == first
    keys.write_text("cd" * 32)
    second = load(path).digest
    write(minimal("[proofs]\nnonce_keys = 'keys'\norigin = 'https://b.example'"))
    assert len({first, second, load(path).digest}) == 3


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "gateway.toml")

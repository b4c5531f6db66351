from __future__ import annotations

import json

import pytest

from tests.unit.fetching.serving import jwk, key_set
from token_service.fetching.documents import jwks_uri_of, lifetime_of, parse_key_set
from token_service.fetching.failure import FetchError

ISSUER = "https://issuer.example/tenant"


def kids(document: bytes) -> set[str]:
    return {key.key_id for key in parse_key_set(document, 1)}


def test_key_set_has_its_usable_keys_and_the_revision() -> None:
    document = json.dumps({"keys": [jwk("a"), {**jwk("b"), "use": "enc"}, jwk("c"), {"kty": "oct"}]}).encode()
    keys = parse_key_set(document, 7)
    assert ({key.key_id for key in keys}, keys.revision) == ({"a", "c"}, 7)
    assert [refused.why for refused in keys.refused] == ["use is not sig", "no usable kid"]


def test_hundred_keys_are_read_and_one_more_is_refused() -> None:
    names = [{**jwk("a"), "kid": str(number)} for number in range(101)]
    assert len(parse_key_set(json.dumps({"keys": names[:100]}).encode(), 1)) == 100
    with pytest.raises(FetchError, match="more than 100 keys"):
        parse_key_set(json.dumps({"keys": names}).encode(), 1)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"keys":null}',
        b'{"keys":[7]}',
        b'{"keys":[]}',
        b'{"keys":[{"kty":"RSA"}]}',
        key_set("a") + b"x",
        key_set("a").replace(b'{"keys"', b'{"keys":[],"keys"'),
    ],
)
def test_other_document_is_no_key_set(document: bytes) -> None:
    with pytest.raises(FetchError):
        parse_key_set(document, 1)


def test_bundle_has_only_keys_for_jwt_svids() -> None:
    svid = {**jwk("jwt"), "use": "jwt-svid"}
    authority = {**jwk("ca"), "use": "x509-svid", "x5c": ["MIIB"]}
    unmarked = {name: value for name, value in jwk("unmarked").items() if name != "use"}
    bundle = [svid, authority, unmarked, jwk("sig")]
    assert kids(json.dumps({"keys": bundle, "spiffe_sequence": 1}).encode()) == {"jwt"}
    assert kids(json.dumps({"keys": bundle}).encode()) == {"jwt"}
    assert kids(json.dumps({"keys": [unmarked, jwk("sig")]}).encode()) == {"unmarked", "sig"}
    with pytest.raises(FetchError, match="no usable key"):
        parse_key_set(json.dumps({"keys": [unmarked], "spiffe_refresh_hint": 60}).encode(), 1)


def test_discovery_document_names_the_key_set() -> None:
    document = json.dumps({"issuer": ISSUER, "jwks_uri": "https://keys.example/jwks"}).encode()
    assert jwks_uri_of(document, ISSUER) == "https://keys.example/jwks"


@pytest.mark.parametrize(
    "named", [ISSUER + "/", ISSUER.upper(), "https://issuer.example", "", None, [ISSUER]]
)
def test_discovery_document_of_another_issuer_is_refused(named: object) -> None:
    document = json.dumps({"issuer": named, "jwks_uri": "https://keys.example/jwks"}).encode()
    with pytest.raises(FetchError, match="of another issuer"):
        jwks_uri_of(document, ISSUER)


@pytest.mark.parametrize("url", [None, 7, ["https://keys.example/jwks"]])
def test_discovery_document_without_key_set_is_refused(url: object) -> None:
    with pytest.raises(FetchError, match="no jwks_uri"):
        jwks_uri_of(json.dumps({"issuer": ISSUER, "jwks_uri": url}).encode(), ISSUER)


@pytest.mark.parametrize(
    ("cache_control", "age", "seconds"),
    [
        ("", "", 600),
        ("public", "", 600),
        ("max-age=900", "", 900),
        ("public, MAX-AGE=900, must-revalidate", "", 900),
        ('max-age="900"', "", 900),
        ("max-age=900", "100", 800),
        ("max-age=900", "-100", 900),
        ("max-age=900", "1000", 60),
        ("max-age=1", "", 60),
        ("max-age=0", "", 60),
        ("max-age=86400", "", 3600),
        ("max-age=9999999999", "", 3600),
        ("s-maxage=900", "", 600),
        ("max-age=-1", "", 600),
        ("max-age=" + "9" * 5000, "", 600),
        ("no-store, max-age=900", "", 60),
        ("no-cache", "", 60),
    ],
)
def test_lifetime_follows_the_headers_within_bounds(cache_control: str, age: str, seconds: float) -> None:
    assert lifetime_of(cache_control, age) == seconds

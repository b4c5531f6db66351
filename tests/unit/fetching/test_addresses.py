from __future__ import annotations

import ipaddress

import pytest

from token_service.fetching.addresses import Target, is_global, permitted
from token_service.fetching.failure import FetchError
from token_service.urls import UnusableValueError

HTTPS = Target.parse("https://keys.example/jwks")
HTTP = Target.parse("http://keys.example/jwks", allow_private=True)

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.216.34",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_address_that_is_not_global_is_refused(text: str) -> None:
    assert not is_global(ipaddress.ip_address(text))
    with pytest.raises(FetchError):
        permitted(HTTPS, [text], allow_private=False)


@pytest.mark.parametrize("text", ["93.184.216.34", "172.32.0.1", "2606:4700::1111", "64:ff9b::5db8:d822"])
def test_global_address_is_permitted(text: str) -> None:
    assert permitted(HTTPS, [text], allow_private=False) == [ipaddress.ip_address(text)]


def test_one_forbidden_address_forbids_the_host() -> None:
    with pytest.raises(FetchError, match=r"10\.0\.0\.1, which is not a global address"):
        permitted(HTTPS, ["93.184.216.34", "10.0.0.1"], allow_private=False)


@pytest.mark.parametrize("text", ["10.0.0.1", "127.0.0.1", "fd00::1", "169.254.1.1"])
def test_private_addresses_are_permitted_on_request(text: str) -> None:
    assert permitted(HTTPS, [text], allow_private=True) == [ipaddress.ip_address(text)]


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "224.0.0.1", "ff02::1"])
def test_addresses_of_no_single_host_are_never_permitted(text: str) -> None:
    with pytest.raises(FetchError, match="not the address of one host"):
        permitted(HTTPS, [text], allow_private=True)


@pytest.mark.parametrize("text", ["10.0.0.1", "93.184.216.34", "::ffff:127.0.0.1"])
def test_http_reaches_only_loopback(text: str) -> None:
    assert permitted(HTTP, ["127.0.0.1", "::1"], allow_private=True)
    with pytest.raises(FetchError, match="http is allowed only for loopback"):
        permitted(HTTP, ["127.0.0.1", text], allow_private=True)


@pytest.mark.parametrize("addresses", [[], ["fe80::1%eth0.1/x"], ["not an address"]])
def test_host_without_usable_address_is_refused(addresses: list[str]) -> None:
    with pytest.raises(FetchError):
        permitted(HTTPS, addresses, allow_private=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://keys.example", Target(True, "keys.example", 443, "keys.example", "/")),
        (
            "https://Keys.Example:8443/a/b?c=d",
            Target(True, "keys.example", 8443, "keys.example:8443", "/a/b?c=d"),
        ),
        ("HTTPS://[2606:4700::1]/jwks", Target(True, "2606:4700::1", 443, "[2606:4700::1]", "/jwks")),
        ("http://127.0.0.1:80", Target(False, "127.0.0.1", 80, "127.0.0.1:80", "/")),
    ],
)
def test_url_is_split(url: str, expected: Target) -> None:
    assert Target.parse(url, allow_private=True) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "keys.example",
        "//keys.example/jwks",
        "http://keys.example/jwks",
        "http://127.0.0.1/jwks",
        "file:///etc/passwd",
        "ftp://keys.example/jwks",
        "https:///jwks",
        "https://:443/jwks",
        "https://user@keys.example/",
        "https://user:SECRET@keys.example/",
        "https://keys.example:0/",
        "https://keys.example:65536/",
        "https://keys.example:x/",
        "https://keys.example/#fragment",
        "https://keys.example/a b",
        "https://keys.exa\tmple/",
        "https://keys.example/\r\nX: y",
        "https://keys.example\\@127.0.0.1/",
        "https://kéys.example/",
        "https://keys%2eexample/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[keys.example]/",
        "https://keys.example/" + "a" * 2048,
    ],
)
def test_other_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UnusableValueError) as caught:
        Target.parse(url)
    assert "SECRET" not in str(caught.value)
    assert "keys" not in str(caught.value)

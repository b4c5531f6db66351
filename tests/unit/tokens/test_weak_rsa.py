from __future__ import annotations

import random
from functools import cache
from math import gcd, prod

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.token_mint import b64, private_key
from token_service.tokens.jwk import WeakKeyError, parse_public_jwk
from token_service.tokens.weak_rsa import weakness_of

PRIMES = [n for n in range(2, 1000) if all(n % d for d in range(2, int(n**0.5) + 1))]
FIRST_39 = prod(PRIMES[:39])


@cache
def vulnerable_prime(bits: int, factors: int, seed: int) -> int:
    """Return a prime of the vulnerable library: `k * M + (65537**a mod M)`."""
    source, m = random.Random(seed), prod(PRIMES[:factors])
    size = bits - m.bit_length()
    while True:
        k = source.getrandbits(size) | 3 << (size - 1)
        candidate = k * m + pow(65537, source.getrandbits(256), m)
        if pow(2, candidate - 1, candidate) == 1:
            return candidate


def vulnerable_modulus(bits: int, factors: int) -> int:
    return vulnerable_prime(bits // 2, factors, 1) * vulnerable_prime(bits // 2, factors, 2)


def jwk(n: int, e: int = 65537) -> dict[str, str]:
    numbers = {name: b64(v.to_bytes(max(1, (v.bit_length() + 7) // 8))) for name, v in (("n", n), ("e", e))}
    return {"kty": "RSA", "kid": "k", **numbers}


def good_numbers() -> rsa.RSAPublicNumbers:
    key = private_key("RS256")
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.public_key().public_numbers()


# The number of prime factors of M that the library used for keys of each size.
@pytest.mark.parametrize(("bits", "factors"), [(512, 39), (1024, 71), (2048, 126)])
def test_roca_fingerprint_is_detected(bits: int, factors: int) -> None:
    modulus = vulnerable_modulus(bits, factors)
    weakness = weakness_of(rsa.RSAPublicNumbers(65537, modulus))
    assert weakness is not None
    assert "CVE-2017-15361" in weakness
    # One prime of another library is enough to avoid the weakness.
    ordinary = rsa.generate_private_key(65537, 2048).private_numbers()
    half = modulus // vulnerable_prime(bits // 2, factors, 1)
    assert weakness_of(rsa.RSAPublicNumbers(65537, half * ordinary.p)) is None


def test_roca_key_is_refused_as_weak() -> None:
    modulus = vulnerable_modulus(2048, 126)
    with pytest.raises(WeakKeyError, match="ROCA"):
        parse_public_jwk(jwk(modulus))


def test_ordinary_keys_have_no_weakness() -> None:
    source = random.Random(20171016)
    for _ in range(2000):
        modulus = source.getrandbits(2048) | 1 << 2047
        while gcd(modulus, FIRST_39) != 1:
            modulus += 1
        assert weakness_of(rsa.RSAPublicNumbers(65537, modulus)) is None
    for name in ("first", "other"):
        key = private_key("RS256", name)
        assert isinstance(key, rsa.RSAPrivateKey)
        assert weakness_of(key.public_key().public_numbers()) is None


def test_modulus_with_contradicting_logarithms_is_not_roca() -> None:
    source = random.Random(1)
    for _ in range(200):
        residue, modulus = 0, 1
        for prime in PRIMES[:39]:
            power = pow(65537, source.randrange(prime), prime)
            residue += modulus * ((power - residue) * pow(modulus, -1, prime) % prime)
            modulus *= prime
        assert weakness_of(rsa.RSAPublicNumbers(65537, residue + modulus)) is None
    for exponent in range(200):
        modulus = pow(65537, exponent, FIRST_39) + FIRST_39
        assert "ROCA" in (weakness_of(rsa.RSAPublicNumbers(65537, modulus)) or "")


@pytest.mark.parametrize("factor", [2, 3, 5, 163, 167])
def test_small_factor_is_detected(factor: int) -> None:
    numbers = good_numbers()
    modulus = numbers.n // factor * factor
    assert "small factor" in (weakness_of(rsa.RSAPublicNumbers(65537, modulus)) or "")
    with pytest.raises(WeakKeyError, match="small factor"):
        parse_public_jwk(jwk(modulus))


@pytest.mark.parametrize(
    ("exponent", "usable"),
    [
        (0, False),
        (1, False),
        (2, False),
        (3, True),
        (4, False),
        (17, True),
        (65536, False),
        (65537, True),
        (2**64 - 1, True),
        (2**64 + 1, False),
        (2**2000 + 1, False),
    ],
)
def test_only_odd_exponents_from_3_up_to_64_bits_are_usable(exponent: int, usable: bool) -> None:  # noqa: FBT001
    numbers = good_numbers()
    assert (weakness_of(rsa.RSAPublicNumbers(exponent, numbers.n)) is None) is usable
    if usable:
        assert parse_public_jwk(jwk(numbers.n, exponent))[1] == "RS256"
    else:
        with pytest.raises(WeakKeyError, match="exponent"):
            parse_public_jwk(jwk(numbers.n, exponent))

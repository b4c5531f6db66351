"""Detection of RSA public keys that an attacker can break or that make verification slow, from the numbers alone.

ROCA (CVE-2017-15361; Nemec, Sys, Svenda, Klinec, Matyas: "The Return of Coppersmith's Attack", CCS 2017): a
library in many smart cards and security modules made every prime as `k * M + (65537**a mod M)`, where M is
the product of the first primes. The modulus of such a key is a power of 65537 modulo M (section 2.2 of the paper).
M has at least the first 39 primes as factors for every key size. The test therefore computes the discrete logarithm
modulo each of these primes, which is cheap, and checks that the logarithms agree. Any other modulus passes by chance
with a probability of 2**-154.
"""

from __future__ import annotations

from functools import cache
from math import gcd, prod
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

MIN_EXPONENT: Final = 3
MAX_EXPONENT_BITS: Final = 64
"""The limit of OpenSSL for large keys. Verification takes one step per bit of the exponent."""

_GENERATOR: Final = 65537
_PRIMES: Final = tuple(n for n in range(2, 168) if all(n % d for d in range(2, n)))
_PRODUCT: Final = prod(_PRIMES)


def weakness_of(numbers: RSAPublicNumbers) -> str | None:
    """Return the weakness of a public key, or None if it has no known weakness.

    Does not check the size of the modulus.
    """
    exponent = numbers.e
    if exponent < MIN_EXPONENT or exponent % 2 == 0 or exponent.bit_length() > MAX_EXPONENT_BITS:
        return f"its exponent is not an odd number of 3 or more with at most {MAX_EXPONENT_BITS} bits"
    residue = numbers.n % _PRODUCT
    if gcd(residue, _PRODUCT) != 1:
        return "its modulus has a small factor"
    if _is_power_of_generator(residue):
        return "its modulus has the ROCA fingerprint (CVE-2017-15361); replace the key"
    return None


def _is_power_of_generator(residue: int) -> bool:
    """Return whether `residue` is a power of 65537 modulo the product of the primes.

    It is one if it is a power modulo each prime and one common exponent exists. Modulo a prime the exponent is known
    modulo the order of 65537.
    """
    exponent, period = 0, 1
    for prime, logarithms in _logarithms():
        logarithm = logarithms.get(residue % prime)
        if logarithm is None:
            return False
        order = len(logarithms)
        common = gcd(period, order)
        if (logarithm - exponent) % common:
            return False
        if order > common:  # the Chinese remainder theorem for moduli with a common factor
            steps = (logarithm - exponent) // common * pow(period // common, -1, order // common)
            exponent += period * (steps % (order // common))
            period *= order // common
    return True


@cache
def _logarithms() -> tuple[tuple[int, dict[int, int]], ...]:
    """Return each prime with the logarithms of the powers of 65537 modulo that prime."""
    tables = []
    for prime in _PRIMES:
        powers = {1 % prime: 0}
        power = _GENERATOR % prime
        while power not in powers:
            powers[power] = len(powers)
            power = power * _GENERATOR % prime
        tables.append((prime, powers))
    # Primes that few residues pass come first: nearly every modulus fails at one of the first two.
    return tuple(sorted(tables, key=lambda table: len(table[1]) / table[0]))

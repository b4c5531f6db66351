from __future__ import annotations

import threading

from tests.support.token_mint import Mint
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.key_set import KeySet
from token_service.tokens.verified_cache import MAX_KEPT, CacheEntry, VerifiedCache
from token_service.tokens.verifier import IssuerRules, Verifier

MINT = Mint()
CLAIMS = Verifier([(IssuerRules(MINT.issuer, frozenset(Algorithm)), KeySet.from_jwks([MINT.jwk]))]).verify(
    MINT.token(1e9)
)


def entry() -> CacheEntry:
    return CacheEntry(CLAIMS, 0, 1)


def test_cache_keeps_used_entries_within_its_capacity() -> None:
    cache = VerifiedCache(100)
    hot = entry()
    cache.put("hot", hot)
    for number in range(10_000):
        cache.put(f"token-{number}", entry())
        assert len(cache) <= 101
        if number % 10 == 0:
            assert cache.get("hot") is hot
    assert cache.get("token-0") is None
    assert cache.get("token-9999") is not None


def test_discard_and_clear_forget_entries() -> None:
    cache = VerifiedCache(4)
    for name in "abc":
        cache.put(name, entry())
    cache.discard("a")
    cache.discard("never there")
    assert cache.get("a") is None
    cache.clear()
    assert len(cache) == 0
    assert cache.get("b") is None


def test_large_tokens_are_not_kept() -> None:
    cache = VerifiedCache(4)
    cache.put("x" * MAX_KEPT, entry())
    cache.put("y" * (MAX_KEPT + 1), entry())
    assert cache.get("x" * MAX_KEPT) is not None
    assert cache.get("y" * (MAX_KEPT + 1)) is None


def test_threads_share_a_cache_safely() -> None:
    cache = VerifiedCache(64)
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(5_000):
                cache.put(f"{name}-{number % 90}", entry())
                cache.get(f"{name}-{number % 70}")
                cache.discard(f"{name}-{number % 50}")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(cache) <= 64 + 4

"""The rule for rates: which counters a call must pass, on every edge.

A use case asks after the gate and before its work. With neither a rate in the policy nor one of the caller it asks
nothing: `if policy.rates or caller.rights.rates`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.counters import Counters
from token_service.core.access.quotas import RateQuota
from token_service.core.policies.policies import Policies
from token_service.core.policies.rates import Bucket, ClassRates, Operation, Rate
from token_service.errors import OverloadedError, RateLimitedError

_NETWORK: Final = 64
"""Bits of an IPv6 address that count: one user has at least the rest."""


class Rates:
    """Counts calls against the rates of policies and of callers."""

    def __init__(
        self,
        policies: Policies,
        counters: Counters,
        quota: RateQuota,
        *,
        log: Callable[[], str],
        refused: Callable[[Operation, Bucket], None] | None = None,
        admitted: Callable[[Operation, Bucket], None] | None = None,
    ) -> None:
        """`quota` limits the names that a caller revokes if it has no rate for them.

        `log` returns the epoch of the revocation log; `refused` hears of each refused call, `admitted` of each counted one.
        """
        self.policies = policies
        self._counters = counters
        self._quota = quota
        self._log = log
        self._refused = refused
        self._admitted = admitted

    def limit_revocations(self, limit: int) -> None:
        """Change the number of names that a caller without a rate for them may revoke."""
        self._quota.limit = limit

    async def take(
        self,
        caller: Caller,
        *operations: Operation,
        rates: ClassRates,
        client_id: str,
        subject: str = "",
        address: str = "",
    ) -> None:
        """Count a call by its subject, address, client and caller. An empty value is not counted.

        The bucket that most calls share comes last, so that calls refused for one subject do not use up the rate of
        its client. Raises `RateLimitedError`.
        """
        if rates:
            for bucket, value in (
                (Bucket.SUBJECT, subject),
                (Bucket.ADDRESS, network_of(address)),
                (Bucket.CLIENT, client_id),
            ):
                if value:
                    for operation in operations:
                        await self._take(operation, bucket, rates, client_id, value)
        if caller.rights.rates:
            for operation in operations:
                await self.take_of_caller(caller, operation)

    async def take_of_subject(
        self, operation: Operation, rates: ClassRates, *, client_id: str, subject: str
    ) -> None:
        """Count a call by its subject only, if that became known later. Raises `RateLimitedError`."""
        await self._take(operation, Bucket.SUBJECT, rates, client_id, subject)

    async def take_of_caller(self, caller: Caller, operation: Operation) -> None:
        """Count a call by its caller only. Raises `RateLimitedError`."""
        rate = caller.rights.rates.get(operation)
        if rate is not None:
            await self._count(operation, Bucket.CALLER, rate, caller.identity)

    async def take_names(self, caller: Caller) -> None:
        """Count the revocation of a name that need not exist. Raises `RateLimitedError`.

        Without a rate of the caller, the quota of each process counts.
        """
        operation = Operation.REVOKE_NAMES
        if operation in caller.rights.rates:
            await self.take_of_caller(caller, operation)
            return
        try:
            self._quota.spend(caller.identity)
        except OverloadedError as error:
            raise self._limited(
                operation, Bucket.CALLER, f"{error.metadata['limit']}/1m", error.retry_after
            ) from None

    async def take_always(self, operation: Operation, bucket: Bucket, rate: Rate, value: str) -> None:
        """Count a call of an operation that has a rate even without a policy. An empty value is not counted.

        Raises `RateLimitedError`.
        """
        if value:
            await self._count(operation, bucket, rate, value)

    async def _take(
        self, operation: Operation, bucket: Bucket, rates: ClassRates, client_id: str, value: str
    ) -> None:
        rate = rates.get((operation, bucket))
        if rate is not None and value:
            await self._count(operation, bucket, rate, self.policies.classification(client_id), value)

    async def _count(self, operation: Operation, bucket: Bucket, rate: Rate, *names: str) -> None:
        wait = await self._counters.take(self._log(), _key(operation.value, bucket.value, names), rate)
        if wait:
            raise self._limited(operation, bucket, str(rate), wait)
        if self._admitted is not None:
            self._admitted(operation, bucket)

    def _limited(
        self, operation: Operation, bucket: Bucket, rate: str, wait: float | None
    ) -> RateLimitedError:
        if self._refused is not None:
            self._refused(operation, bucket)
        advice = (
            "; spread them over time, or revoke a whole client or everything at once"
            if operation is Operation.REVOKE_NAMES
            else ""
        )
        return RateLimitedError(
            f"the rate of {operation} per {bucket} is reached: {rate}{advice}",
            metadata={"bucket": bucket.value, "operation": operation.value, "rate": rate},
            retry_after=wait,
        )


@lru_cache(maxsize=4096)  # the names of a client repeat with each of its calls
def _key(operation: str, bucket: str, names: tuple[str, ...]) -> str:
    """Return a digest, because subjects and addresses must not be readable in the store."""
    digest = hashlib.sha256(repr((operation, bucket, names)).encode("utf-8", "replace"))
    return digest.hexdigest()[:32]


@lru_cache(maxsize=4096)  # parsing takes 10 us
def network_of(address: str) -> str:
    """Return what an address counts as: an IPv4 address, or the /64 network of an IPv6 address.

    A text that is no address counts as it is.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((int(parsed), _NETWORK), strict=False))
    return str(parsed)

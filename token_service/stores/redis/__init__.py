"""Redis: a copy of the revocations that notifies other nodes and that gateways read, and the counters of the rates.

`layout` is a public contract.
"""

from token_service.stores.redis.mirror import RedisMirror

__all__ = ["RedisMirror"]

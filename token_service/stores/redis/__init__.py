"""Redis: a copy of the revocations that notifies other nodes and that gateways read.

`layout` is a public contract.
"""

from token_service.stores.redis.mirror import RedisMirror

__all__ = ["RedisMirror"]

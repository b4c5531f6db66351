"""Redis: the revocations for other nodes to hear of and for gateways to ask.

`layout` is a public contract.
"""

from token_service.stores.redis.mirror import RedisMirror

__all__ = ["RedisMirror"]

"""Clients of Redis by URL: one server, the master that Sentinel names, or the nodes of a Cluster.

The servers of the service and the session store of `token_service.bff` use them. Importing this package needs redis-py.
"""

from token_service.redis_clients.clients import RedisAccess, RedisClients
from token_service.redis_clients.failures import cause_of
from token_service.redis_clients.tls import RedisTls

__all__ = ["RedisAccess", "RedisClients", "RedisTls", "cause_of"]

"""The stores on PostgreSQL and SQLite."""

from token_service.stores.sql.stores import SqlStores

__all__ = ["SqlStores"]

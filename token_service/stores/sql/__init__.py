"""The stores on PostgreSQL and SQLite: `SqlStores` opens them all."""

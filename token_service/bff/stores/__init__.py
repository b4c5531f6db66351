"""Adapters of the session store. `sql` needs sqlalchemy and `redis` needs redis; import the one that you use."""

"""The access to the databases: connections, lanes, group commit."""

"""How the databases are talked to: connections, lanes, group commit."""

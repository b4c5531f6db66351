"""Keys that others publish, from a URL or a file: adapters of the port `KeySource`."""

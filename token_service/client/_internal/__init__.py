"""Private parts of the client library's public modules."""

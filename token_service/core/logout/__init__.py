"""Logouts: sessions that clients end, and the clients that are told of the end of theirs."""

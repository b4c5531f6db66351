"""Servers, processes and stores for the tests."""

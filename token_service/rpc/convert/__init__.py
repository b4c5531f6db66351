"""Conversion of protobuf messages to commands of the core, and of its results to messages."""

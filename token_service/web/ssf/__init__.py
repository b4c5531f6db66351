"""The HTTP endpoints of the Shared Signals Framework 1.0, as a transmitter."""

"""Randomness as a dependency: core is given it and never fetches it."""

from __future__ import annotations

from collections.abc import Callable

Entropy = Callable[[int], bytes]
"""`entropy(n)`: n bytes from a cryptographically secure source."""

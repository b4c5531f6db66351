"""The failure of a fetch, for the log of the node."""

from __future__ import annotations


class FetchError(Exception):
    """A fetch gave no usable keys. The text names the reason, and may describe the network of the node.

    It is never shown to a caller, who could explore that network with it.
    """

"""The revocation log, this node's replica of it, and revocation of tokens."""

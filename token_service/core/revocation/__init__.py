"""The revocation log, this node's replica of it, and revoking."""

"""A token service: it issues, validates, refreshes and revokes tokens.

This module has only the version, because the import of any generated stub runs it.
"""

__version__ = "0.1.0"

"""A token service: issues, validates, refreshes and revokes tokens.

Only the version lives here, because importing any generated stub runs this module.
"""

__version__ = "0.1.0"

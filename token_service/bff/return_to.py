"""Where a login returns to: a path of the application, so that no link to the login leads to another site."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from token_service.client._internal.request_path import is_plain

MAX_RETURN_TO: Final = 1024
"""Characters of a `return_to`. It is kept in a cookie."""
_ALLOWED: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/?#%\[\]-]*")
"""The characters of URLs (RFC 3986, section 2)."""


def is_own_path(target: str, prefix: str) -> bool:
    r"""Return whether `target` is a path, with or without query and fragment, that all readers take for one of this host.

    Browsers take `//host`, `/\host` and, after they drop tabs and line breaks, some other texts for another host. A
    router may decode `/%2Fhost` before it redirects. Paths below `prefix` are refused, because a login that returns to
    the login never ends.
    """
    if len(target) > MAX_RETURN_TO or not _ALLOWED.fullmatch(target):
        return False
    path = re.split(r"[?#]", target, maxsplit=1)[0]
    once = unquote(path)
    return all(
        is_plain(each) and each != prefix and not each.startswith(f"{prefix}/")
        for each in (path, once, unquote(once))
    )

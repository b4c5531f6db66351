"""Rules for the URIs of a client. They are compared as exact texts, so each has one unambiguous form."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

MAX_URI: Final = 2048
"""Bytes of a URI."""

_SCHEME: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*):(?P<rest>.*)", re.ASCII | re.DOTALL)
_UNRESERVED_OR_DELIMITER: Final = r"[A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-F]{2}"
_PATH: Final = rf"(?:/(?:{_UNRESERVED_OR_DELIMITER})*)*"
_QUERY: Final = rf"(?:\?(?:{_UNRESERVED_OR_DELIMITER}|[/?])*)?"
_WEB: Final = re.compile(
    rf"//(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(?P<port>[1-9][0-9]{{0,4}}))?(?P<path>{_PATH}){_QUERY}",
    re.ASCII,
)
_PRIVATE: Final = re.compile(rf"(?P<path>{_PATH}){_QUERY}", re.ASCII)
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_ABSOLUTE: Final = re.compile(
    r"[a-z][a-z0-9+.-]*:[!$&'()*+,;=:@/?A-Za-z0-9._~%-]+", re.ASCII
)  # RFC 3986, section 4.3
_LOOPBACK: Final = ("127.0.0.1", "[::1]")
_DEFAULT_PORTS: Final = {"https": "443", "http": "80"}
_SCHEMES: Final = "must begin with https://, or with http://127.0.0.1 or http://[::1] on the same machine (RFC 8252, section 7.3)"


def is_dns_name(text: str) -> bool:
    """Tell whether a text is a DNS name in lower case (RFC 5280, section 4.2.1.6; RFC 9525, section 6.3).

    Labels have letters, digits and inner dashes. A wildcard or an address is not a DNS name here.
    """
    return (
        len(text) <= 253
        and _DNS_NAME.fullmatch(text) is not None
        and not text.rpartition(".")[2].isdigit()  # four numbers are an address
    )


def is_absolute_uri(text: str) -> bool:
    """Tell whether a text is a URI with a scheme and without a fragment."""
    return _ABSOLUTE.fullmatch(text) is not None


def problem_of_redirect_uri(uri: str) -> str | None:
    """Return why a URI can't be a redirect URI; None: it can.

    Allowed are `problem_of_web_uri` and private-use schemes with a dot (RFC 8252, section 7.1).
    """
    match = _SCHEME.fullmatch(uri)
    if match is not None and match["scheme"] not in ("https", "http"):
        if "." not in match["scheme"]:
            return (
                f"has the scheme {match['scheme'][:32]}; allowed are https, http on loopback addresses, and schemes "
                "with a dot such as com.example.app (RFC 8252, section 7.1)"
            )
        return _problem_of_form(match["rest"], _PRIVATE, absolute_path=True)
    return problem_of_web_uri(uri)


def problem_of_web_uri(uri: str, *, loopback: bool = True) -> str | None:
    """Return why a text is no exact `https` URI, or with `loopback` no `http` URI of a loopback address."""
    match = _SCHEME.fullmatch(uri)
    scheme = match["scheme"] if match is not None else ""
    if match is None or scheme not in ("https", "http"):
        return _SCHEMES if loopback else "must begin with https://"
    problem = _problem_of_form(match["rest"], _WEB, absolute_path=False)
    if problem is not None:
        return problem
    web = _WEB.fullmatch(match["rest"])
    assert web is not None
    if not _is_host(web["host"]):
        return "has no valid host: a DNS name in lower case or an IP address"
    if int(web["port"] or 1) > 65535:
        return "has a port above 65535"
    if scheme == "http" and not (loopback and web["host"] in _LOOPBACK):
        return _SCHEMES if loopback else "must begin with https://"
    return None


def problem_of_origin(origin: str) -> str | None:
    """Return why a text is no origin as browsers send it (RFC 6454, section 6.1); None: it is one."""
    problem = problem_of_web_uri(origin)
    if problem is not None:
        return problem
    scheme, _, rest = origin.partition("://")
    if "/" in rest or "?" in rest:
        return "is not an origin: it has a path or a query; only scheme, host and port are allowed"
    if rest.endswith(f":{_DEFAULT_PORTS[scheme]}"):
        return f"has the default port, which browsers leave out: remove :{_DEFAULT_PORTS[scheme]}"
    return None


def _problem_of_form(rest: str, form: re.Pattern[str], *, absolute_path: bool) -> str | None:
    """Return the problem of the part after the scheme and its colon."""
    if "#" in rest:
        return "has a fragment (#…), which is not allowed (RFC 6749, section 3.1.2)"
    if "*" in rest:
        return "has a wildcard (*): register each URI exactly"
    authority = re.split(r"[/?]", rest.removeprefix("//"), maxsplit=1)[0] if rest.startswith("//") else ""
    if "@" in authority:
        return "has a user name or password, which is not allowed"
    match = form.fullmatch(rest)
    if match is None or (absolute_path and not match["path"]):
        return (
            "is not in the one form that is compared exactly (RFC 3986): scheme and host in lower case, a path that "
            "begins with /, percent-encoding with capital letters, and no other characters"
        )
    if {".", ".."}.intersection(match["path"].split("/")):
        return "has a path with . or .. as a segment, which browsers resolve: write the resolved path"
    return None


def _is_host(host: str) -> bool:
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
        return str(address) == host[1:-1]
    if host.rpartition(".")[2].isdigit():
        try:
            return str(ipaddress.IPv4Address(host)) == host
        except ValueError:
            return False
    return is_dns_name(host)

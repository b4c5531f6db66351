"""Checks of every HTTP answer that a foreign client received."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ERROR = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")
"""The characters of `error` and `error_description` (RFC 6749, section 5.2)."""


def assert_conformant(wire: Iterable[Mapping[str, Any]]) -> None:
    """Fail for an answer that a strict client refuses, or that a cache could keep."""
    answers = [*wire]
    assert answers
    for answer in answers:
        _assert_answer(answer)


def _assert_answer(answer: Mapping[str, Any]) -> None:
    headers, status = answer["headers"], answer["status"]
    assert not 300 <= status < 400, answer
    if answer["body"]:
        assert headers["content-type"] == "application/json", answer
        body = json.loads(answer["body"])
        assert isinstance(body, dict), answer
        assert not _nulls(body), answer
        assert headers["content-length"] == str(len(answer["body"].encode())), answer
        if status >= 400:
            assert _ERROR.fullmatch(body["error"]), answer
            assert _ERROR.fullmatch(body.get("error_description", "none")), answer
        elif "access_token" in body:
            assert isinstance(body["expires_in"], int), answer
            assert body["expires_in"] > 0, answer
    if answer["method"] == "POST":
        assert headers["cache-control"] == "no-store", answer
        assert headers.get("pragma", "no-cache") == "no-cache", answer
    if status == 401:
        scheme, _, parameters = headers["www-authenticate"].partition(" ")
        assert _TOKEN.fullmatch(scheme), answer
        assert 'realm="' in parameters, answer


def _nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_nulls(each) for each in value.values())
    if isinstance(value, list):
        return any(_nulls(each) for each in value)
    return value is None

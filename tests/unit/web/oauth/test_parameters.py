"""Parameters are read from one small urlencoded body, each once; everything else is an invalid request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, strategies as st
from starlette.requests import Request

from token_service.errors import InvalidRequestError
from token_service.web.oauth.parameters import (
    MAX_BODY,
    MAX_PARAMETERS,
    Parameters,
    parse_form,
    read_body,
    read_form,
)

FORM = "application/x-www-form-urlencoded"


def request_of(
    *parts: bytes, query: bytes = b"", ends: bool = True, **headers: str
) -> tuple[Request, list[bytes]]:
    """Return a request whose body arrives in parts, and the list of parts that were not read yet."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        if left:
            part = left.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(left) or not ends}
        return {"type": "http.disconnect"}

    fields = {"content_type": FORM, **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/token",
        "query_string": query,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()],
    }
    return Request(scope, receive), left


async def refusal_of(*parts: bytes, **request: Any) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        await read_form(request_of(*parts, **request)[0])
    return refused.value.message


# --- The body -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [FORM, f"{FORM};charset=UTF-8", f"{FORM} ; charset=iso-8859-1", "APPLICATION/X-WWW-FORM-URLENCODED"],
)
async def test_body_is_utf8_whatever_charset_the_header_names(content_type: str) -> None:
    request, _ = request_of(b"a=%C3", b"%A9+1&b=2", content_type=content_type)
    parameters = await read_form(request)
    assert (parameters.get("a"), parameters.get("b"), parameters.get("c")) == ("é 1", "2", "")


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data; boundary=x", f"text/plain; {FORM}", f"{FORM}x"],
)
async def test_other_content_types_are_refused_before_the_body_is_read(content_type: str) -> None:
    request, left = request_of(b"a=1", content_type=content_type)
    with pytest.raises(InvalidRequestError, match=r"^content-type: must be"):
        await read_form(request)
    assert left == [b"a=1"]


@pytest.mark.parametrize("at", [0, 1])
async def test_second_content_type_is_refused(at: int) -> None:
    request, _ = request_of(b"a=1", content_type=FORM)
    request.scope["headers"].insert(at, (b"content-type", b"application/json"))
    with pytest.raises(InvalidRequestError, match=r"^content-type: must be"):
        await read_form(request)


async def test_parameters_in_the_url_and_compressed_bodies_are_refused() -> None:
    assert await refusal_of(b"a=1", query=b"client_secret=s") == (
        "query: must be empty; send the parameters in the body"
    )
    assert await refusal_of(b"a=1", content_encoding="gzip") == "content-encoding: must not be sent"


async def test_longer_body_is_refused_without_reading_the_rest() -> None:
    part = b"a" * (MAX_BODY // 4)
    allowed, _ = request_of(b"a=", part, part, part, part[2:])
    assert len((await read_form(allowed)).get("a")) == MAX_BODY - 2
    request, left = request_of(b"a=", part, part, part, part[1:], *[part] * 100)
    with pytest.raises(InvalidRequestError, match=f"^body: is longer than {MAX_BODY} bytes$"):
        await read_body(request, MAX_BODY)
    assert len(left) == 100


async def test_body_that_ends_early_is_an_invalid_request() -> None:
    assert await refusal_of(b"grant_type=client_credentials", ends=False) == "body: ended early"


# --- The parameters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {}),
        (b"a=", {}),
        (b"a=&a=1", {"a": ["1"]}),  # RFC 6749, section 3.1: without a value it was not sent
        (b"a=%00", {"a": ["\0"]}),
        (b"a=1%262&b=c%3Dd=e", {"a": ["1&2"], "b": ["c=d=e"]}),
        (b"a=1;b=2", {"a": ["1;b=2"]}),
        (b"resource=r1&audience=a&resource=r2", {"resource": ["r1", "r2"], "audience": ["a"]}),
    ],
)
def test_values_are_decoded(body: bytes, expected: dict[str, Sequence[str]]) -> None:
    parameters = parse_form(body)
    for name in ("a", "b", "resource", "audience"):
        assert list(parameters.all(name)) == expected.get(name, [])
        assert parameters.get(name) == next(iter(expected.get(name, [])), "")


@pytest.mark.parametrize("name", ["grant_type", "client_id", "token", "scope", "unknown", "n" * 100])
def test_parameter_that_is_sent_twice_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_form(f"{name}=1&x=2&{name}=1".encode())
    assert refused.value.message == f"{name[:64]}: is sent more than once"


@pytest.mark.parametrize(
    "body",
    [
        b"a=%FF",  # no UTF-8
        b"a=%C3",
        b"a=%C0%80",  # overlong NUL
        b"a=%ED%A0%80",  # surrogate
        b"%FF=a",
        "a=é".encode(),  # not encoded
        b"a=\xff",
        b"token",
        b"&",
        b"a=1&&b=2",
    ],
)
def test_text_that_two_parsers_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=f"^body: is not {FORM} in UTF-8"):
        parse_form(body)


def test_number_of_parameters_is_limited() -> None:
    most = [(f"p{number}", "1") for number in range(MAX_PARAMETERS)]
    assert parse_form(urlencode(most).encode()).get("p0") == "1"
    with pytest.raises(InvalidRequestError, match=f"at most {MAX_PARAMETERS} parameters$"):
        parse_form(urlencode([*most, ("q", "")]).encode())


def test_words_are_separated_by_spaces_only() -> None:
    parameters = parse_form(b"scope=+read++write%09x+")
    assert parameters.words("scope") == ("read", "write\tx")
    assert parameters.words("other") == ()


def test_required_parameter_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"^token: is required$"):
        parse_form(b"token=").required("token")


def test_repr_shows_names_only() -> None:
    assert repr(parse_form(b"client_secret=s3cret&client_id=app")) == "<Parameters client_id, client_secret>"


_BYTES = st.binary(max_size=200)
_FORM_LIKE = st.lists(
    st.sampled_from(
        [b"a", b"=", b"&", b"%", b"%0", b"%00", b"%ED%A0%80", b"+", b"\xc3", b";", b"resource", b"1"]
    ),
    max_size=40,
).map(b"".join)


@given(st.one_of(_BYTES, _FORM_LIKE))
@example(b"%" * 200)
def test_any_body_is_parameters_or_an_invalid_request(body: bytes) -> None:
    try:
        parameters = parse_form(body)
    except InvalidRequestError:
        return
    assert isinstance(parameters, Parameters)
    for value in parameters.all("resource"):
        value.encode()  # no surrogates


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=5),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
        max_size=8,
    )
)
def test_encoded_values_are_read_unchanged(values: dict[str, str]) -> None:
    parameters = parse_form(urlencode(values).encode())
    assert {name: parameters.get(name) for name in values} == values

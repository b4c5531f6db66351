"""What a subject identifier of a transmitter names here (RFC 9493; Shared Signals Framework 1.0, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.core.grants.subjects import SubjectTemplate
from token_service.core.limits import MAX_SUBJECT, MAX_TOKEN_ID
from token_service.core.security_events.refusal import SetErrorCode, SetRefusedError
from token_service.tokens.opaque_token import has_form_of_opaque

ISS_SUB: Final = "iss_sub"
OPAQUE: Final = "opaque"
EMAIL: Final = "email"
FORMATS: Final[Mapping[str, str]] = {ISS_SUB: "sub", OPAQUE: "id", EMAIL: "email"}
"""The formats that can name a subject, with the member that is the placeholder of their template."""
_ALIASES: Final = "aliases"
_COMPLEX: Final = "complex"
MAX_ALIASES: Final = 10
"""Identifiers of one subject of the format `aliases`."""
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    ISS_SUB: ("iss", "sub"),
    OPAQUE: ("id",),
    EMAIL: ("email",),
}
_MAX_VALUE: Final = 1024


@dataclass(frozen=True, slots=True)
class Named:
    """What an identifier names. With both, a session of another subject is not meant."""

    subject: str = ""
    """The subject here; empty: none is named that the settings map."""
    upstream_session: str = ""
    """The `sid` of a session at the provider; empty: none is named."""


@dataclass(frozen=True, slots=True)
class SubjectMapping:
    """How the identifiers of one transmitter are read."""

    issuers: Collection[str]
    """The values of `iss` that count in the format `iss_sub`."""
    templates: Mapping[str, SubjectTemplate]
    """The template of each format that names subjects."""

    def named_by(self, identifier: Mapping[str, Any]) -> Named:
        """Return what an identifier names; nothing, if its format is unknown or not mapped.

        Raises `SetRefusedError` for an identifier that breaks the rules of its format.
        """
        if identifier.get("format") != _COMPLEX:
            return Named(subject=self._subject(identifier))
        user, session = identifier.get("user"), identifier.get("session")
        return Named(
            subject="" if user is None else self._subject(_object(user)),
            upstream_session="" if session is None else _session(_object(session)),
        )

    def _subject(self, identifier: Mapping[str, Any]) -> str:
        kind = identifier.get("format")
        if kind == _ALIASES:
            return self._of_aliases(identifier)
        if not isinstance(kind, str):
            raise _refused("has an identifier without format")
        if kind not in _MEMBERS:
            return ""
        values = _values(identifier, kind)
        template = self.templates.get(kind)
        if template is None or (kind == ISS_SUB and values["iss"] not in self.issuers):
            return ""
        try:
            subject = template.of({**values, "email_verified": True})
        except ValueError as error:
            raise _refused(f"names no subject: {error}") from None
        if len(subject) > MAX_SUBJECT or not subject.isprintable() or has_form_of_opaque(subject):
            raise _refused("names no subject that can exist here")
        return subject

    def _of_aliases(self, identifier: Mapping[str, Any]) -> str:
        """Return the subject of the first alias that is mapped. All of them name the same one (RFC 9493, section 3.2.8)."""
        aliases = identifier.get("identifiers")
        if not isinstance(aliases, list) or not 0 < len(aliases) <= MAX_ALIASES:
            raise _refused(f"has no list of 1 to {MAX_ALIASES} aliases")
        for alias in aliases:
            if _object(alias).get("format") == _ALIASES:
                raise _refused("has aliases inside aliases")
        return next((found for alias in aliases if (found := self._subject(alias))), "")


def _session(identifier: Mapping[str, Any]) -> str:
    """Return the `sid` that the member `session` of a complex subject names; empty: its format names none."""
    kind = identifier.get("format")
    if not isinstance(kind, str):
        raise _refused("has an identifier without format")
    if kind not in {OPAQUE, ISS_SUB}:
        return ""
    session = _values(identifier, kind)[FORMATS[kind]]
    if len(session) > MAX_TOKEN_ID:
        raise _refused(f"has a session of more than {MAX_TOKEN_ID} characters")
    return session


def _values(identifier: Mapping[str, Any], kind: str) -> dict[str, str]:
    values = {name: identifier.get(name) for name in _MEMBERS[kind]}
    for name, value in values.items():
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_VALUE:
            raise _refused(f"lacks {name}, or it is no text of at most {_MAX_VALUE} characters")
    return {name: str(value) for name, value in values.items()}


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _refused("has a member that is no identifier")
    return value


def _refused(problem: str) -> SetRefusedError:
    return SetRefusedError(SetErrorCode.INVALID_REQUEST, f"sub_id {problem}")

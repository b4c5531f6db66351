"""The change of policies: the form, the difference that it makes, and the button that puts it in force."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase, admit
from token_service.core.administration.policies import Changes, PolicyAdministration, PolicyCheck
from token_service.errors import InvalidRequestError, PoliciesChangedError
from token_service.web.console.visit import Visit
from token_service.web.oauth.parameters import Parameters
from token_service.wire import HTTP_STATUS

_MAX_NUMBER: Final = 18
"""Digits of a revision."""


class PolicyChanges:
    """Sets and resets overrides, in two steps.

    The second step has the revision of the overrides that the first one showed. If they were changed meanwhile, the form
    comes back as it was typed, and its difference is shown again.
    """

    def __init__(self, policies: PolicyAdministration) -> None:
        self._policies = policies

    async def edit(self, visit: Visit) -> Response:
        """Return the form, filled in with the setting of the link that led to it."""
        admit(visit.caller, UseCase.CHECK_POLICIES)  # the form is of use only with its next step
        path, text = visit.query.get("setting"), ""
        if path:
            values = {each.path: each.value for each in self._policies.get(visit.caller).values}
            text = f"{path} = {values.get(path, '')}\n"
        return visit.page("policy_edit.html", text=text, comment="", check=None, problem="", may_set=True)

    async def preview(self, visit: Visit) -> Response:
        """Return the difference that the changes of the form make, or their problems."""
        try:
            check = self._policies.check_overrides(visit.caller, changes_of(visit.form.get("changes")))
        except InvalidRequestError as error:
            check = PolicyCheck([error.message])
        return self._form(visit, check, status=400 if check.problems else 200)

    async def set(self, visit: Visit) -> Response:
        """Put the changes of the form in force. They are shown again if that is not possible."""
        form = visit.form
        try:
            await self._policies.set(
                visit.caller,
                changes_of(form.get("changes")),
                visit.now,
                revision=_revision(form),
                comment=form.get("comment"),
            )
        except (InvalidRequestError, PoliciesChangedError) as error:
            if not visit.may(UseCase.GET_POLICIES):
                raise  # the form shows more than this operator may see
            return self._form(visit, None, status=HTTP_STATUS[error.reason], problem=_problem(error))
        return visit.redirect("policies")

    async def preview_reset(self, visit: Visit) -> Response:
        """Return the difference that the reset of an override makes."""
        admit(visit.caller, UseCase.CHECK_POLICIES)
        return self._reset_form(visit, visit.query.required("setting"))

    async def reset(self, visit: Visit) -> Response:
        """Remove an override."""
        form = visit.form
        path = form.required("setting")
        try:
            await self._policies.reset(
                visit.caller, [path], visit.now, revision=_revision(form), comment=form.get("comment")
            )
        except PoliciesChangedError as error:
            if not visit.may(UseCase.GET_POLICIES):
                raise
            return self._reset_form(visit, path, HTTP_STATUS[error.reason], _problem(error))
        return visit.redirect("policies")

    def _form(self, visit: Visit, check: PolicyCheck | None, *, status: int, problem: str = "") -> Response:
        return visit.page(
            "policy_edit.html",
            status,
            text=visit.form.get("changes"),
            comment=visit.form.get("comment"),
            check=check,
            problem=problem,
            revision=self._policies.get(visit.caller).overrides.revision,
            may_set=visit.may(UseCase.SET_POLICIES),
        )

    def _reset_form(self, visit: Visit, path: str, status: int = 200, problem: str = "") -> Response:
        check = self._policies.check_reset(visit.caller, [path])
        return visit.page(
            "policy_reset.html",
            status,
            path=path,
            comment=visit.form.get("comment"),
            check=check,
            problem=problem,
            overrides=self._policies.get(visit.caller).overrides,
            may_set=visit.may(UseCase.RESET_POLICIES),
        )


def changes_of(text: str) -> Changes:
    """Return the changes of a text with one `path = value` a line. Raises `InvalidRequestError`.

    Empty lines and lines that begin with `#` do not count.
    """
    changes = []
    for number, each in enumerate(text.split("\n"), 1):  # a value may have other separators of lines
        line = each.strip()
        if not line or line.startswith("#"):
            continue
        path, equals, value = line.partition("=")
        if not equals:
            raise InvalidRequestError.of(f"line {number}", "is not PATH = VALUE")
        changes.append((path.strip(), value.strip()))
    return changes


def _revision(form: Parameters) -> int:
    text = form.required("revision")
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_NUMBER:
        raise InvalidRequestError.of("revision", "is no revision")
    return int(text)


def _problem(error: InvalidRequestError | PoliciesChangedError) -> str:
    if isinstance(error, PoliciesChangedError):
        return (
            "Nothing was changed: the policies were changed meanwhile, to revision "
            f"{error.metadata['revision']}. Look at the difference again before you repeat the change."
        )
    return error.message

"""The policies in force: the book of file and environment, the overrides in the database, and the registered clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from token_service.core.policies.overrides import PolicyValue, notation, values_of, with_overrides
from token_service.core.policies.policy import SETTINGS, Policy, PolicyBook, Source


class Policies:
    """The policy book in force. A reload replaces the whole book."""

    def __init__(self, book: PolicyBook) -> None:
        """Put a book of file and environment in force, without overrides."""
        self.book = book
        self._below = book
        """The book of file and environment, before the overrides."""
        self._overrides: Mapping[str, str] = {}
        self._registered: Callable[[str], str | None] = lambda _client_id: None
        self._adapt: Callable[[str, Policy], Policy] = lambda _client_id, policy: policy

    def adapt_by(self, adapt: Callable[[str, Policy], Policy]) -> None:
        """Let `adapt` change the policy of each client, as the registration of the client demands."""
        self._adapt = adapt

    def classify_by(self, registered: Callable[[str], str | None]) -> None:
        """Let the classification that `registered` returns for a client override the book's; None: it has none."""
        self._registered = registered

    def with_file(self, book: PolicyBook) -> PolicyBook:
        """Return a book of file and environment with the newest overrides. Raises `ConfigurationError`."""
        return with_overrides(book, self._overrides)

    def with_overrides(self, overrides: Mapping[str, str]) -> PolicyBook:
        """Return the book of file and environment with other overrides. Raises `ConfigurationError`."""
        return with_overrides(self._below, overrides)

    def replace_file(self, book: PolicyBook) -> None:
        """Put another book of file and environment in force. Raises `ConfigurationError` if the overrides contradict it."""
        self.book = self.with_file(book)
        self._below = book

    def replace_overrides(self, overrides: Mapping[str, str]) -> None:
        """Put other overrides in force. Raises `ConfigurationError` if they contradict the file.

        The book in force then remains, and the overrides take effect with the first file that they do not contradict.
        """
        self._overrides = overrides
        self.book = self.with_overrides(overrides)

    def of(self, client_id: str, audience: Sequence[str] = ()) -> Policy:
        """Return the current policy of a client for tokens with an audience.

        Raises `PolicyViolationError` if the book has lost the classification that the client is registered with.
        """
        policy = self.book.policy(client_id, audience, registered=self._registered(client_id))
        return self._adapt(client_id, policy)

    def classification(self, client_id: str) -> str:
        """Return the current classification of a client."""
        return self._registered(client_id) or self.book.classification(client_id)

    @property
    def depend_on_audience(self) -> bool:
        """Whether an audience has a classification."""
        return bool(self.book.audiences)

    def values(self) -> Sequence[PolicyValue]:
        """Return the settings of all classifications, by their paths."""
        return values_of(self.book)

    def values_for(self, client_id: str, audience: Sequence[str] = ()) -> Sequence[PolicyValue]:
        """Return the settings of a client for tokens with an audience, each with what decides it.

        Raises the errors of `of`.
        """
        classification, book = self.classification(client_id), self.book
        before = book.policy(client_id, registered=classification)
        within = book.policy(client_id, audience, registered=classification)
        after = self.of(client_id, audience)
        found = []
        for name in SETTINGS:
            path, value = f"{classification}.{name}", getattr(after, name)
            if value != getattr(within, name):
                source = Source.REGISTRATION
            elif value != getattr(before, name):
                source = Source.AUDIENCE
            else:
                source = book.sources.get(path, Source.DEFAULT)
            found.append(PolicyValue(path, notation(name, value), source))
        return found

"""The rights and the rates of one caller, ready to be checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from token_service.core.policies.rates import NO_RATES, CallerRates, strictest
from token_service.core.policies.rights import May, Permission, Right, matches


class Rights:
    """The rights of a caller, by permission, and its rates. Immutable."""

    __slots__ = ("_by_permission", "issue_anything", "permissions", "rates")

    def __init__(self, rights: Iterable[Right] = (), rates: CallerRates = NO_RATES) -> None:
        found: dict[Permission, tuple[Right, ...]] = {}
        for right in rights:
            found[right.permission] = (*found.get(right.permission, ()), right)
        self._by_permission: Final = found
        self.permissions: Final = frozenset(found)
        """The permissions, with or without bounds."""
        self.issue_anything: Final = any(right.unbounded for right in found.get(Permission.ISSUE, ()))
        """Whether a right to issue has no bounds."""
        self.rates: Final = rates

    @classmethod
    def of(cls, *permissions: Permission) -> Rights:
        """Return unbounded rights."""
        return cls(Right(permission=permission, unbounded=True) for permission in permissions)

    @classmethod
    def everything(cls) -> Rights:
        """Return every permission without bounds."""
        return cls.of(*Permission)

    @classmethod
    def joined(cls, several: Iterable[Rights]) -> Rights:
        """Return the rights of a caller with several names: all rights of each, and the strictest rates."""
        rights = tuple(several)
        return cls((each for one in rights for each in one), strictest(one.rates for one in rights))

    def __iter__(self) -> Iterator[Right]:
        for several in self._by_permission.values():
            yield from several

    def __or__(self, other: Rights) -> Rights:
        return Rights.joined((self, other))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Rights)
            and self._by_permission == other._by_permission
            and self.rates == other.rates
        )

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"<Rights {', '.join(sorted(self.permissions))}>"

    def are_unbounded(self, permission: Permission) -> bool:
        """Tell whether a permission applies to every client."""
        return any(right.unbounded or not right.clients for right in self._by_permission.get(permission, ()))

    def cover_client(self, permission: Permission, client_id: str) -> bool:
        """Tell whether a permission applies to a client."""
        return any(
            right.unbounded or matches(right.clients, client_id)
            for right in self._by_permission.get(permission, ())
        )

    def naming(self, client_id: str) -> Rights:
        """Return the rights whose bound `clients` has the id of a client itself, not only a pattern for it."""
        return Rights(right for right in self if client_id in right.clients)

    def problem_of(
        self,
        permission: Permission,
        *,
        client_id: str,
        audience: Sequence[str],
        scopes: Sequence[str],
        token_types: Collection[str],
        uses: frozenset[May],
    ) -> tuple[str, str] | None:
        """Return the bound that a request for tokens crosses, and the value beyond it; None: a right allows it.

        One right must allow the whole request: a client of one right with a scope of another one is refused.
        """
        crossed: tuple[str, str] | None = ("permission", permission.value)
        closest = -1
        for right in self._by_permission.get(permission, ()):
            if right.unbounded:
                return None
            for inside, (name, patterns, values) in enumerate(
                (
                    ("clients", right.clients, (client_id,)),
                    ("audiences", right.audiences, audience),
                    ("scopes", right.scopes, scopes),
                    ("token_types", right.token_types, token_types),
                )
            ):
                outside = next((value for value in values if not matches(patterns, value)), None)
                if outside is not None:
                    # Name the bound of the right that comes closest.
                    if inside > closest:
                        closest, crossed = inside, (name, outside)
                    break
            else:
                denied = uses.difference(right.may)
                if not denied:
                    return None
                closest, crossed = 4, ("may", min(denied).value)
        return crossed

"""The role of an offer in retrieval: a query, a gallery offer, or both; read here for everybody.

An offer without a role is what its reader makes of it:

- training (`afmrl.training.splits`) takes a product's first offer as its query and the others as its gallery. It does
  so for the role "both" as well, because a query that is in its own gallery would find itself;
- evaluation (`afmrl.evaluation.tasks`) takes a product's first offer as a query and every other offer as gallery; one
  of the role "both" is both, and does not count as its own hit;
- a task for mteb (`afmrl.evaluation.mteb`) takes it as "both".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from afmrl.data.offer import Offer

Role = Literal["query", "gallery", "both"]
ROLES: tuple[Role, ...] = get_args(Role)


def role_of(offer: Offer, column: str = "role") -> Role | None:
    """The offer's role as a column says it, in whatever case; None where it says none, or no role that there is.

    >>> role_of(Offer("1", "a", extra={"role": "Gallery"})), role_of(Offer("2", "b", extra={"role": "querry"}))
    ('gallery', None)
    """
    named = _named_role(offer, column)
    return next((role for role in ROLES if role == named), None)


def other_roles(offers: Sequence[Offer], column: str = "role") -> dict[str, int]:
    """Values of the column that are no role, a misspelled "querry" say, and how many offers have each.

    >>> other_roles([Offer("1", "a", extra={"role": "querry"}), Offer("2", "b", extra={"role": "both"})])
    {'querry': 1}
    """
    named = [_named_role(offer, column) for offer in offers]
    return dict(Counter(role for role in named if role and role not in ROLES))


def _named_role(offer: Offer, column: str) -> str:
    return offer.column(column).strip().lower()

"""Values that pass between layers by the hundred thousand a second.

A frozen dataclass sets its fields through `object.__setattr__`, so that to make one with eight
fields costs 0.9 us instead of 0.2, and a publication by command needs six of them. `value` is
`dataclasses.dataclass` to the type checker, which refuses an assignment, and makes the same
class without the check while it runs: equal and hashed by its fields, with slots. For values
that are made per message or connection; others stay dataclasses.
"""

from typing import TYPE_CHECKING

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen, slots):
        """As `dataclasses.dataclass`, of which both arguments have to be true."""
        if not (frozen and slots):
            raise TypeError("a value is frozen and has slots")
        return dataclass(slots=True, unsafe_hash=True)

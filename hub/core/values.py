"""Values that are made a hundred thousand times a second: structs that msgspec makes in C.

One with eleven fields takes 0.15 us, where a frozen dataclass takes 0.9 (measured), and a
publication makes six. `gc=False` leaves a value out of garbage collections, so it may be said only
of one that holds nothing but texts, numbers and such values. The core takes nothing else from the
library, which reads and writes JSON too.
"""

from msgspec import Struct, field
from msgspec.structs import replace

__all__ = ["Struct", "field", "replace"]

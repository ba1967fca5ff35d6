"""Which character of a name is not allowed: in a script that nobody here reads it is not seen."""


def odd_character(name: str, allowed: str) -> str:
    """Of `name` the first character that is not in `allowed`, as a clause that says which and
    where; empty where all are, so that only the length can be wrong.

    Example: `'é' (U+00E9) is its character 4`.
    """
    for place, character in enumerate(name, 1):
        if character not in allowed:
            return f"{character!r} (U+{ord(character):04X}) is its character {place}"
    return ""

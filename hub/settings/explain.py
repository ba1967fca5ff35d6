"""Explain wrong settings, one line each: the name, the value, the allowed values."""

import difflib
from collections.abc import Iterable, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hub.settings.catalog import SettingInfo, ValueSource, by_name, namespace_allowed
from hub.settings.values import BROKER, MASK, NAMESPACES, show_plain, show_text

_MAX_SHOWN = 80
# The error type of rules that concern several settings; its context names the one to blame.
RULE = "hub_rule"


def explain(error: ValidationError, sources: Mapping[str, ValueSource]) -> str:
    """Return one line for each wrong setting, named as its source in `sources` spells it."""
    lines = [_line(details, sources) for details in error.errors(include_url=False)]
    return "\n".join(dict.fromkeys(lines))


def _line(details: ErrorDetails, sources: Mapping[str, ValueSource]) -> str:
    known = by_name()
    rule = details.get("ctx", {}) if details["type"] == RULE else None
    name = str(rule["setting"] if rule else details["loc"][0])
    if name not in known:
        return f"{name} is not a setting{closest(name, known)}"
    info = known[name]
    spelled = info.spelled(sources.get(name, ValueSource.PYTHON))
    if rule:
        return f"{spelled} is {quoted(info, rule['value'])}: {rule['allowed']}"
    if info.kind is NAMESPACES and len(details["loc"]) > 1:
        return _namespace_line(spelled, details)
    return f"{spelled} is {quoted(info, details['input'])}: {_allowed(info.allowed, details)}"


def _namespace_line(spelled: str, details: ErrorDetails) -> str:
    """Return the line for a namespace. `loc` is the setting, the namespace, then an option or
    pydantic's own `[key]`."""
    _, namespace, *rest = details["loc"]
    option = str(rest[0]) if rest else "[key]"
    allowed = namespace_allowed()
    if details["type"] == "extra_forbidden":
        return f"{spelled}: {namespace}.{option} is unknown; known are {', '.join(allowed)}"
    if option not in allowed:
        return f"{spelled}: {namespace!r}: {_allowed('an object', details)}"
    value = _shorten(show_plain(details["input"]))
    return f"{spelled}: {namespace}.{option} is {value!r}: {_allowed(allowed[option], details)}"


def _allowed(allowed: str, details: ErrorDetails) -> str:
    """Return a validator's own sentence where it has one, else the kind's words."""
    text = str(details.get("ctx", {}).get("error", ""))
    if text:
        return text
    return f"allowed: {allowed}"


def quoted(info: SettingInfo, value: object) -> str:
    """Return `value` for a message: secrets masked, long ones cut."""
    if info.is_secret:
        return repr(MASK)
    if isinstance(value, str) and info.kind is not BROKER:
        return repr(_shorten(show_text(value)))
    return repr(_shorten(info.kind.show(value)))


def _shorten(text: str) -> str:
    if len(text) <= _MAX_SHOWN:
        return text
    return f"{text[:_MAX_SHOWN]}... ({len(text)} characters)"


def closest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return the most similar name as the end of a sentence; empty where no name comes near.

    A `prefix` that all names have makes none of them similar.
    """
    ends = {each.removeprefix(prefix): each for each in known}
    matches = difflib.get_close_matches(name.removeprefix(prefix), list(ends), n=1)
    return f"; did you mean {ends[matches[0]]}?" if matches else ""

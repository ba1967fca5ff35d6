"""The machine's own Chromium, as in `tests/browser`."""

from tests.browser.conftest import browser, page, tab

__all__ = ["browser", "page", "tab"]

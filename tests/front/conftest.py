"""The machine's own Chromium, as in `tests/browser`."""

from tests.browser.conftest import browser, page

__all__ = ["browser", "page"]

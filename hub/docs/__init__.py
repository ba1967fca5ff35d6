"""The documents: Markdown for users, and the code that makes a small site of it.

`README.md` is the table of contents: its headings and links are the sidebar, and give the pages
their order. The documents are data and know only each other; `hub.transports` serves them.
"""

from pathlib import Path

DIRECTORY = Path(__file__).parent
"""The directory of the Markdown. Pages that belong to another folder are symbolic links here."""

"""Notes about connections on disk, for a ticket of yesterday (`HUB_JOURNAL_PATH`); nothing else.

Only what `hub.core.forensics` notes is kept here; why it is noted, and what answers are made of it,
is not known. One thread has the file; nothing in the event loop waits for a disk.
"""

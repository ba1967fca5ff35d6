"""Notes about connections on disk, for questions about the past (`HUB_JOURNAL_PATH`); nothing else.

Only the notes of `hub.core.forensics` are kept here. This folder does not know why they are made,
or how they are explained. One thread owns the file, and nothing in the event loop waits for a disk.
"""

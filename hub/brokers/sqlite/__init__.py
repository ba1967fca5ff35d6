"""Durable history in one file: the memory broker's laws, and SQLite below them.

`broker` is the port that the core sees, `intake` what is written in one commit, `reading` pages of
history, `tending` trimming and checkpoints, `file` the tables, `blocks` how publications lie in
them, `faults` what can be wrong with the file, `urls` what `HUB_BROKER` says. What numbers, bounds
and remembers does not belong here: that is in memory (`hub.brokers.memory`), written once.
"""

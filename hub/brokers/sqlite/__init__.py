"""Durable history in one file: the memory broker's laws, and SQLite below them.

`broker` is the port that the core sees, `waiting` and `intake` what is written in one commit,
`reading` pages of history, `restoring` what is known at the start, `tending` trimming and
checkpoints, `backup` a copy, `file` the tables, `blocks` how publications lie in them, `faults`
what can be wrong with the file, `urls` and `options` what the settings say. What numbers, bounds
and remembers does not belong here: that is in memory (`hub.brokers.memory`), written once.
"""

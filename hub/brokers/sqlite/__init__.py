"""Durable history in one file: the memory broker's rules, and SQLite below them.

`broker` is the port that the core sees. `intake` has the publications that wait, `commit_group`
gives those of one commit their offsets, `commits` has the next commit and the state at the start,
`writing` the thread that writes, `recent` the commits that are not in blocks yet, `reading` pages
of history, `tending` trimming and checkpoints. `file` is the open file, `beside` its lock and its
WAL, `layout` its tables and blocks, `backup` a copy, `faults` its errors, `urls` its URL. Epochs,
bounds and history in memory do not belong here: they are those of `hub.brokers.memory`.
"""

"""The sessions of each channel on this node, and how a publication goes to all of them.

How one session is written to does not belong here (`hub.core.session`), nor how history is read
(`hub.core.recovery`).
"""

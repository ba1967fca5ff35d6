"""The sessions of each channel on this node, and the way of a publication to all of them.

Writing to one session does not belong here (`hub.core.session`), nor does reading history
(`hub.core.recovery`).
"""

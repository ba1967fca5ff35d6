"""Everything that happens because time passes: deadlines, heartbeats, ends of tokens, old age.

Clocks are handed in. Reactions to a peer or to a publication do not belong here.
"""

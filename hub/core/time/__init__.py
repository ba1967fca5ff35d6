"""Everything that happens because time passes: deadlines, signs of life, ends of tokens, old age.

Clocks are handed in. What happens because a peer or a publication came does not belong here.
"""

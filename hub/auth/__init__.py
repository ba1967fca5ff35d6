"""Who may: keys, tokens, origins, and the one policy object that every transport asks."""

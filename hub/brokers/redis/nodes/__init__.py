"""The nodes that share one Redis: which of them live, and what they ask each other."""

"""The broker over Redis: pub/sub between nodes, history in streams, one atomic function."""

"""What many tests need: a real hub process, and waiting for a condition instead of time."""

"""What operators see: metrics, logs, event-loop lag. Reads the core, is never asked by it."""

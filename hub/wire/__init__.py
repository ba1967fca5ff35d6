"""Wire formats: bytes to commands, pushes to bytes. Pure functions, no I/O."""

"""Wire formats: bytes to typed messages and back. No I/O, no clock, no trio."""

"""Doors to other systems: what we ask of them, and what we do while they do not answer."""

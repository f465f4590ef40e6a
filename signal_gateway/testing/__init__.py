"""Simulators and fakes, shipped so that users can test against a whole gateway."""

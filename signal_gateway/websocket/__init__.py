"""The door of phones, agents and consoles."""

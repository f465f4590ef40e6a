"""The signalling gateway: one server for the live links of a whole fleet."""

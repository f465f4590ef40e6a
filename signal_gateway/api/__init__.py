"""The operator's HTTP door: FastAPI on Hypercorn's Trio worker. Knows the wire, asks services, never the database."""

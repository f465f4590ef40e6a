"""How the gateway is seen: metrics, logs, health."""

"""Who asks, when a proxy stands between (CONTRACT.md §1): `X-Forwarded-For` is believed of the proxies that we know, and of nobody else."""

from ipaddress import ip_address, ip_network


class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is believed (`server.trusted_proxies`: addresses or networks)."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]

    def trusts(self, address: str) -> bool:
        """Whether this address is one of them."""
        if not self._networks:
            return False
        try:
            peer = ip_address(address)
        except ValueError:
            return False
        return any(peer in network for network in self._networks)

    def client_address(self, peer: str, forwarded_for: str) -> str:
        """The address of the client itself: the last one of X-Forwarded-For that is not a trusted proxy's."""
        if not self.trusts(peer):
            return peer
        hops = [hop.strip() for hop in forwarded_for.split(",")]
        for hop in reversed(hops):
            try:
                address = str(ip_address(hop))
            except ValueError:
                break
            if not self.trusts(address):
                return address
        return peer

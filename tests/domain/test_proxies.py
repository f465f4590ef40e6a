"""Whose word is believed about who asks."""

from signal_gateway.domain.proxies import TrustedProxies


def test_only_a_trusted_proxy_may_name_its_client():
    proxies = TrustedProxies(("10.0.0.0/8", "::1"))
    forwarded = "203.0.113.9, 198.51.100.7, 10.1.2.3"
    assert proxies.client_address("10.9.9.9", forwarded) == "198.51.100.7"
    assert proxies.client_address("192.0.2.1", forwarded) == "192.0.2.1"
    assert proxies.client_address("10.9.9.9", "") == "10.9.9.9"
    assert proxies.client_address("10.9.9.9", "203.0.113.9, rubbish") == "10.9.9.9"


def test_without_trusted_proxies_nobody_is_believed():
    assert TrustedProxies(()).client_address("127.0.0.1", "203.0.113.9") == "127.0.0.1"

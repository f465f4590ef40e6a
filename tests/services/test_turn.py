"""What clients are told of STUN and TURN servers."""

from signal_gateway.domain.turn import turn_credentials
from signal_gateway.services.turn import IceServers, MediaSettings

NOW_MS = 1_700_000_000_999
SETTINGS = MediaSettings(turn_urls=("turn:a.example:3478?transport=udp", "turns:a.example:5349"), turn_secret="north", turn_ttl_s=600)


def servers(settings: MediaSettings, stun_url: str = "stun:stun.example:3478") -> IceServers:
    return IceServers(settings, stun_url, lambda: NOW_MS)


def test_each_client_gets_credentials_of_its_own_that_end_ten_minutes_from_now():
    stun, turn = servers(SETTINGS).of("robot")
    expected = turn_credentials("north", "robot", 1_700_000_600)
    assert stun == {"urls": ["stun:stun.example:3478"]}
    assert turn == {
        "urls": ["turn:a.example:3478?transport=udp", "turns:a.example:5349"],
        "username": "1700000600:robot",
        "credential": expected.password,
    }
    assert servers(SETTINGS).of("drone")[1]["username"] == "1700000600:drone"


def test_without_turn_servers_there_is_stun_alone_and_without_both_nothing():
    assert servers(MediaSettings()).of("robot") == [{"urls": ["stun:stun.example:3478"]}]
    assert servers(MediaSettings(), stun_url="").of("robot") == []


def test_the_secret_is_in_no_repr():
    assert "north" not in repr(SETTINGS)

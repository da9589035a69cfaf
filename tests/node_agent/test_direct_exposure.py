"""What the settings expose: nothing unless asked for, and beyond this machine only with TLS."""

from pathlib import Path
from typing import Any

import pytest

from node_agent.config import ConfigError, NodeConfig
from node_agent.direct_exposure import (
    DirectExposure,
    direct_exposure,
    direct_names,
    direct_tls,
)

CERT, KEY = Path("/no/cert.pem"), Path("/no/key.pem")


def exposed(listen: str, **other: Any) -> DirectExposure:
    """What these settings expose."""
    found = direct_exposure(NodeConfig(data_dir=Path("/no"), direct_listen=listen, **other))
    assert found is not None
    return found


def test_nothing_unless_asked_for() -> None:
    """By default there is no listener."""
    assert direct_exposure(NodeConfig(data_dir=Path("/no"))) is None


def test_this_machine_alone_may_be_plain() -> None:
    """On a loopback address nothing else is needed."""
    found = exposed("127.0.0.1:8701")
    assert (found.host, found.port, found.urls) == ("127.0.0.1", 8701, ["http://127.0.0.1:8701"])
    assert exposed("[::1]:8701").urls == ["http://[::1]:8701"]
    assert "this machine only" in exposed("localhost:8701").says


def test_beyond_this_machine() -> None:
    """There it takes TLS, or the word of the operator that the network is trusted."""
    with pytest.raises(ConfigError, match="no TLS"):
        exposed("10.0.0.7:8701")
    trusted = exposed("10.0.0.7:8701", direct_trusted_network=True)
    assert trusted.urls == ["http://10.0.0.7:8701"]
    assert "WITHOUT TLS" in trusted.says
    tls = exposed("10.0.0.7:8701", direct_tls_cert=CERT, direct_tls_key=KEY)
    assert tls.urls == ["https://10.0.0.7:8701"]
    assert "with TLS" in tls.says


def test_all_addresses_are_none_to_tell() -> None:
    """A listener on all addresses has to be told which of them clients are to call."""
    with pytest.raises(ConfigError, match="no address"):
        exposed("0.0.0.0:8701", direct_trusted_network=True)
    urls = ["http://gpu1.example.org:8701/"]
    found = exposed("0.0.0.0:8701", direct_trusted_network=True, direct_urls=urls)
    assert found.urls == ["http://gpu1.example.org:8701"]
    assert "gpu1.example.org" in direct_names(found)


@pytest.mark.parametrize(
    ("listen", "other"),
    [
        ("8701", {}),
        ("127.0.0.1", {}),
        ("127.0.0.1:0", {}),
        ("127.0.0.1:99999", {}),
        ("127.0.0.1:8701/path", {}),
        ("127.0.0.1:8701", {"direct_tls_cert": CERT}),
        ("127.0.0.1:8701", {"direct_urls": ["gpu1:8701"]}),
        ("127.0.0.1:8701", {"direct_origins": ["https://hive.example.org/page"]}),
    ],
)
def test_settings_that_cannot_be(listen: str, other: dict[str, Any]) -> None:
    """What cannot be listened on or told to clients is refused with a hint."""
    with pytest.raises(ConfigError) as refused:
        exposed(listen, **other)
    assert refused.value.hint


def test_a_certificate_that_cannot_be_read() -> None:
    """Without its files there is no listener, and the error names them."""
    found = exposed("10.0.0.7:8701", direct_tls_cert=CERT, direct_tls_key=KEY)
    with pytest.raises(ConfigError, match="cannot use /no/cert"):
        direct_tls(found)
    assert direct_tls(exposed("127.0.0.1:8701")) is None

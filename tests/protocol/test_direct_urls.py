"""Which text is a direct address of a node, and which is not."""

import pytest

from protocol.direct_urls import DIRECT_URLS_MAX, is_direct_url, usable_direct_urls


@pytest.mark.parametrize(
    "text",
    [
        "https://gpu1.example.org",
        "https://gpu1.example.org/",
        "http://10.0.0.7:8701",
        "https://[2001:db8::1]:8701",
    ],
)
def test_what_is_one(text: str) -> None:
    """A scheme, a host and perhaps a port."""
    assert is_direct_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu1.example.org",
        "ftp://gpu1.example.org",
        "https://",
        "https://user@gpu1.example.org",
        "https://gpu1.example.org/path",
        "https://gpu1.example.org?query",
        "https://gpu1.example.org#part",
        "https://gpu1.example.org:0",
        "https://gpu1.example.org:99999",
        "https://gpu1.example.org:port",
        "https://gpu1 .example.org",
        "https://gpu1.example.org\nHost: other",
        "https://gpü1.example.org",
        "https://" + "a" * 300,
        "https://[::1",
    ],
)
def test_what_is_none(text: str) -> None:
    """Whatever would carry more than an address, or none."""
    assert not is_direct_url(text)


def test_the_usable_ones_are_few_and_each_there_once() -> None:
    """What is no address is left out, so is what stands twice, and there are not too many."""
    assert usable_direct_urls(["http://a/", "http://a", "nonsense", "http://b"]) == [
        "http://a",
        "http://b",
    ]
    many = [f"http://h{number}" for number in range(50)]
    assert usable_direct_urls(many) == many[:DIRECT_URLS_MAX]

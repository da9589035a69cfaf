"""What a command says of a file it read."""

import base64

from protocol.work_requests import file_reply


def test_text_is_text_and_all_else_is_base64() -> None:
    """Either way the bytes can be had back, and `bytes` counts them."""
    text = file_reply("a", "ü\n".encode())
    assert (text.encoding, text.content, text.bytes) == ("utf-8", "ü\n", 3)
    other = file_reply("b", b"\x00\xff")
    assert (other.encoding, other.bytes) == ("base64", 2)
    assert base64.b64decode(other.content) == b"\x00\xff"

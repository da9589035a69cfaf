r"""File names as text: the kernel has bytes, JSON has Unicode; nothing may be lost between.

A name that is UTF-8 stands as itself. A byte that is not UTF-8 stands as `\xHH`, in small hex
digits, 80 to ff. So that this can be read back, a backslash of the name itself that is followed by
what would read as such an escape stands as `\x5c`; every other backslash is left alone. Pure.
"""

import re

_LOOKS_ESCAPED = re.compile(r"\\(?=x(?:[89a-f][0-9a-f]|5c))")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")


def to_text(name: bytes) -> str:
    """Return a file name or path as text that `to_bytes` turns back into it."""
    text = _LOOKS_ESCAPED.sub(r"\\x5c", name.decode("utf-8", "surrogateescape"))
    return _NOT_UTF8.sub(lambda found: f"\\x{ord(found.group()) - 0xDC00:02x}", text)


def to_bytes(text: str) -> bytes:
    """Return the file name that `text` stands for; ValueError where it stands for none."""
    # A lone surrogate is no character, so `encode` refuses it: UnicodeEncodeError.
    return _ESCAPED.sub(lambda found: bytes([int(found.group(1), 16)]), text.encode("utf-8"))

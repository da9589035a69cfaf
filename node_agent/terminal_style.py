"""The terminal style in force after some output: what a page that begins there has to set first.

Pure. Must not interpret colours: codes are kept as they were printed.
"""

import re
from typing import Final

from protocol.log_chunks import STYLE_BYTES_MAX

_ESCAPE: Final = b"\x1b"
_STYLE: Final = re.compile(rb"\x1b\[([0-9;:]{0,32})m")
_RESETS: Final = (b"\x1b[0m", b"\x1b[m")
#: Behind the last reset no more is looked at than this: styles are set just before they are used.
_LOOK_BACK_BYTES: Final = 4096


def style_after(style: bytes, content: bytes) -> bytes:
    """Return the style in force after `content`, given the one before it: the codes, bounded."""
    if _ESCAPE not in content:
        return style
    for reset in _RESETS:
        at = content.rfind(reset)
        if at >= 0:
            content = content[at + len(reset) :]
            style = b""
    codes: dict[bytes, None] = {}
    for code in _STYLE.finditer(style + content[-_LOOK_BACK_BYTES:]):
        if code[1].startswith((b"0;", b";")):
            codes.clear()
        # A code set again is in force from its last place on.
        codes.pop(code[0], None)
        codes[code[0]] = None
    kept = list(codes)
    while sum(map(len, kept)) > STYLE_BYTES_MAX:
        del kept[0]
    return b"".join(kept)

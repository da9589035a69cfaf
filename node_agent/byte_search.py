"""Whether bytes contain other bytes, by the fastest search at hand.

Owns nothing but that question: `contains(text, sought)` is `sought in text`. glibc's search is
two to four times as fast as Python's, and the redactor asks of every byte an agent prints.
"""

import ctypes
import os
from collections.abc import Callable

#: Below this a call into the C library costs more than it saves.
_SMALL_BYTES = 2048


def _plain(text: bytes, sought: bytes) -> bool:
    return sought in text


def _fastest() -> Callable[[bytes, bytes], bool]:
    # Only glibc's is known to be fast and safe here; others fall back, and lose only speed.
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return _plain
    try:
        # PyDLL, not CDLL: the interpreter lock is kept. Giving it up for some microseconds each
        # time would cost a wait of milliseconds wherever another thread is busy.
        search = ctypes.PyDLL(None).memmem
    except (OSError, AttributeError):
        return _plain
    search.restype = ctypes.c_void_p
    search.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]

    def fast(text: bytes, sought: bytes) -> bool:
        if len(text) < _SMALL_BYTES or len(sought) == 1:
            return sought in text
        return search(text, len(text), sought, len(sought)) is not None

    return fast


contains = _fastest()

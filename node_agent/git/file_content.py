"""The bytes of a file, or a range of them, and what they are. Pure."""

from dataclasses import dataclass
from typing import Final

from node_agent.git.errors import BinaryFile, FileTooLarge, InvalidInput

#: Of one file in one reply.
READ_BYTES_MAX: Final = 1024 * 1024
#: Of a file's beginning, what tells text from other bytes: the same as git looks at.
LOOKED_AT_BYTES: Final = 8000
#: Kinds a page may show as they are. Text is always plain: a page of an agent's is never a page of
#: ours. So SVG, which is text and may hold a script, is shown as text.
_IMAGES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


@dataclass(frozen=True)
class FileContent:
    """Bytes of a file from `first_byte` on; `size` is the whole file's.

    `source` is worktree, saved or branch; `commit` stands where they are read from one.
    """

    content: bytes
    first_byte: int
    size: int
    binary: bool
    media_type: str
    source: str = "worktree"
    commit: str | None = None

    @property
    def whole(self) -> bool:
        return len(self.content) == self.size


def wanted_range(path: str, size: int, first_byte: int, bytes_max: int | None) -> tuple[int, int]:
    """Return the first byte to read and how many; FileTooLarge for too many at once.

    Without a range the whole file is wanted; a range is cut to what there is.
    """
    if first_byte < 0:
        raise InvalidInput("first_byte", str(first_byte), "Count from 0.")
    if bytes_max is not None and not 0 < bytes_max <= READ_BYTES_MAX:
        raise InvalidInput("bytes_max", str(bytes_max), f"Ask for 1 to {READ_BYTES_MAX} bytes.")
    if bytes_max is None and first_byte == 0 and size > READ_BYTES_MAX:
        raise FileTooLarge(path, size, READ_BYTES_MAX)
    return first_byte, max(0, min(bytes_max or READ_BYTES_MAX, size - first_byte))


def is_binary(beginning: bytes) -> bool:
    """Whether a file that begins like this is no text, as git judges it."""
    return b"\0" in beginning[:LOOKED_AT_BYTES]


def media_type(beginning: bytes) -> str:
    """Return what a file that begins like this may be served as."""
    for magic, name in _IMAGES:
        if beginning.startswith(magic):
            return name
    if beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP":
        return "image/webp"
    return "application/octet-stream" if is_binary(beginning) else "text/plain; charset=utf-8"


def check_text(path: str, beginning: bytes, size: int) -> None:
    """Raise BinaryFile unless a file that begins like this is text."""
    if is_binary(beginning):
        raise BinaryFile(path, size)

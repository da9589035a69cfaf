"""The hive's own log on stderr: lines for people, or one JSON object each."""

import logging
import sys
import time
from typing import Any, Final

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

_WHY_CHARACTERS_MAX: Final = 200
#: What every record has; the rest was given by `extra` and belongs on the line.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class PlainLines(logging.Formatter):
    """Time, level, message; then what was given beside it."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{at} {record.levelname.lower():7} {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonLines(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said, enc_hook=str).decode()


class _NoHttp(logging.Filter):
    """Makes what a caller sent that is no HTTP one line: it is no failure of ours, nor news."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        why = " ".join(error.message.split())[:_WHY_CHARACTERS_MAX]
        record.msg, record.args = "%s: %s", (record.getMessage(), why)
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.INFO, "INFO"
        return logging.getLogger().isEnabledFor(logging.INFO)


def set_up(level: str, *, as_json: bool) -> None:
    """Have everything the hive logs go to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.server").filters[:] = [_NoHttp()]
    # Each request a line would drown the rest; the middleware logs what failed.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)

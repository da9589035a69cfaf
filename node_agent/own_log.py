"""The agent's own log on standard error: lines for people, or JSON for collectors.

Must not hold what agents print; that is the business of the chunk store.
"""

import json
import logging
import sys
import time
from typing import Any, Final

from aiohttp.http_exceptions import HttpProcessingError

_WHY_CHARACTERS_MAX: Final = 200
#: Attributes every record has; what else is there was given as `extra`.
_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({})))
#: Libraries whose every connection is no news.
_QUIET: Final = ("aiosqlite", "asyncio", "websockets", "aiohttp")


class _JsonFormatter(logging.Formatter):
    """One JSON object per line, with what was given as `extra` beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
        }
        said.update(
            {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        )
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


class _LineFormatter(logging.Formatter):
    """Time, level and message; the module only where something is wrong."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        where = f" [{record.name}]" if record.levelno >= logging.WARNING else ""
        line = f"{at} {record.levelname.lower():<7} {record.getMessage()}{where}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


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
    """Send all logging of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else _LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.server").filters[:] = [_NoHttp()]
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))

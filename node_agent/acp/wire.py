"""The frames of JSON-RPC 2.0 on an agent's pipes: a line to a message, and a message to a line.

Knows nothing of sessions. Whatever a line holds, reading it raises nothing: it is a message or not.
The other end's request ids are kept as the text they came in, so that any id goes back unchanged.
"""

import json
import math
from typing import Any, Final

import msgspec

#: A longer line is no message: whoever reads the agent's output must not gather more than this.
LINE_BYTES_MAX: Final = 64 * 1024 * 1024

METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
AUTH_REQUIRED: Final = -32000
REQUEST_CANCELLED: Final = -32800

#: Of what an agent says of an error: people read it.
_WORDS_CHARACTERS_MAX: Final = 4000
#: Of an id, in characters of its JSON text: it is kept until the request is answered.
_RPC_ID_MAX: Final = 1024


class Call(msgspec.Struct, frozen=True):
    """A request of the agent. `rpc_id` is JSON text."""

    rpc_id: str
    method: str
    params: dict[str, Any]


class Notice(msgspec.Struct, frozen=True):
    """A notification of the agent."""

    method: str
    params: dict[str, Any]


class RpcError(msgspec.Struct, frozen=True):
    """Why the agent did not do what we asked."""

    code: int
    message: str
    data: Any = None


class Response(msgspec.Struct, frozen=True):
    """An answer to a request of ours; `rpc_id` None: to none that we can have sent."""

    rpc_id: int | None
    result: dict[str, Any]
    error: RpcError | None = None


Incoming = Call | Notice | Response


class _Frame(msgspec.Struct):
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"null")
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


_FRAMES: Final = msgspec.json.Decoder(_Frame)
_ENCODER: Final = msgspec.json.Encoder()


def read_line(line: bytes) -> Incoming | None:
    """Return the message of a line, or None where it holds none."""
    # A message is an object. Of what tools print beside it most is none, and it may be much.
    if len(line) > LINE_BYTES_MAX or b"{" not in line:
        return None
    try:
        return _read_frame(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        mended = _mend(line)
    try:
        return None if mended is None else _read_frame(mended)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _read_frame(line: bytes) -> Incoming | None:
    frame = _FRAMES.decode(line)
    if frame.method is not None:
        params = _mapping(frame.params)
        if frame.id is msgspec.UNSET:
            return Notice(frame.method, params)
        rpc_id = bytes(frame.id).decode()
        return Call(rpc_id, frame.method, params) if len(rpc_id) <= _RPC_ID_MAX else None
    if frame.id is msgspec.UNSET:
        return None
    number = _number(msgspec.json.decode(frame.id))
    error = msgspec.json.decode(frame.error)
    if error is None:
        return Response(number, _mapping(frame.result))
    return Response(number, {}, _read_error(error))


def _number(answered: Any) -> int | None:
    """Return which request of ours is answered; where all numbers are floats, by one."""
    if isinstance(answered, float) and answered.is_integer():
        return int(answered)
    return answered if isinstance(answered, int) and not isinstance(answered, bool) else None


def _mapping(raw: msgspec.Raw) -> dict[str, Any]:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, dict) else {}


def _read_error(error: Any) -> RpcError:
    if not isinstance(error, dict):
        return RpcError(0, str(error)[:1000])
    code, message = error.get("code"), error.get("message")
    return RpcError(
        code if isinstance(code, int) and abs(code) < 2**31 else 0,
        message if isinstance(message, str) else "",
        error.get("data"),
    )


def _mend(line: bytes) -> bytes | None:
    """Return the line as strict JSON where it nearly is; lost, it could be what a turn waits for.

    Halves of characters, as cuts leave; control characters in texts; a mark or NULs around it; and
    numbers that are none, as Python writes them.
    """
    try:
        text = line.decode("utf-8", "replace").strip("\ufeff\0 \t\r")
        value = json.loads(text, strict=False, parse_constant=_nothing, parse_float=_finite)
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    # A pair of surrogates becomes its character again; half a pair becomes U+FFFD.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.encode()


def _nothing(_: str) -> None:
    return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def request_line(rpc_id: int, method: str, params: Any) -> bytes:
    """Return a request of ours."""
    return _ENCODER.encode({"jsonrpc": "2.0", "id": rpc_id, "method": method, "params": params})


def notification_line(method: str, params: Any) -> bytes:
    """Return a notification of ours."""
    return _ENCODER.encode({"jsonrpc": "2.0", "method": method, "params": params})


def result_line(rpc_id: str, result: Any) -> bytes:
    """Return our answer to a request of the agent."""
    raw = msgspec.Raw(rpc_id.encode())
    return _ENCODER.encode({"jsonrpc": "2.0", "id": raw, "result": result})


def error_line(rpc_id: str, code: int, message: str) -> bytes:
    """Return our refusal of a request of the agent."""
    raw = msgspec.Raw(rpc_id.encode())
    error = {"code": code, "message": message}
    return _ENCODER.encode({"jsonrpc": "2.0", "id": raw, "error": error})


def text_in(fields: dict[str, Any], name: str) -> str:
    """Return the text of a field, empty where there is none."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def mapping_in(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object of a field, empty where there is none."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def mappings_in(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects in a field's list, without what else is in it."""
    value = fields.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def words_of(error: RpcError) -> str:
    """Return an agent's error in its own words; the words are often in `data` alone."""
    details = ""
    if isinstance(error.data, str):
        details = error.data
    elif isinstance(error.data, dict):
        details = text_in(error.data, "details") or text_in(error.data, "message")
    words = error.message
    if details and details not in words:
        words = f"{words}: {details}" if words else details
    return words[:_WORDS_CHARACTERS_MAX] or f"error {error.code}"


def same_id(rpc_id: str, wanted: Any) -> bool:
    """Return whether an id, as JSON text, is this one."""
    try:
        known = msgspec.json.decode(rpc_id)
    except msgspec.MsgspecError:
        # A number that no machine has room for: it goes back as it came, and equals none.
        return False
    return type(known) is type(wanted) and bool(known == wanted)

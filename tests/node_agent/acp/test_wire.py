"""Lines to messages and back, whatever a line holds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.acp.wire import (
    LINE_BYTES_MAX,
    Call,
    Notice,
    Response,
    RpcError,
    error_line,
    mapping_in,
    mappings_in,
    notification_line,
    read_line,
    request_line,
    result_line,
    text_in,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_each_kind_of_message_is_read():
    """A request, a notification, a result and an error, with or without `jsonrpc`."""
    assert read_line(b'{"id":"a","method":"m","params":{"x":1}}') == Call('"a"', "m", {"x": 1})
    assert read_line(b'{"jsonrpc":"2.0","method":"m"}') == Notice("m", {})
    assert read_line(b'{"id":3,"result":{"ok":true}}') == Response(3, {"ok": True})
    assert read_line(b'{"id":3,"result":null}') == Response(3, {})
    error = RpcError(-32000, "no", {"a": 1})
    line = b'{"id":3,"error":{"code":-32000,"message":"no","data":{"a":1}}}'
    assert read_line(line) == Response(3, {}, error)
    assert read_line(b'{"id":3,"error":"it broke"}') == Response(3, {}, RpcError(0, "it broke"))


def test_what_we_say_is_read_as_it_was_meant():
    """Each line is one message, whose newlines are escaped."""
    params = {"text": "a\nb\u2028"}
    assert read_line(request_line(7, "m", params)) == Call("7", "m", params)
    assert read_line(notification_line("m", params)) == Notice("m", params)
    assert read_line(result_line("7", params)) == Response(7, params)
    assert read_line(error_line("7", -1, "no")) == Response(7, {}, RpcError(-1, "no"))
    assert b"\n" not in request_line(7, "m", params)


@pytest.mark.parametrize("rpc_id", ["1", '"1"', "null", "1.50", str(2**80), '"\\u00e9"'])
def test_an_id_goes_back_as_it_came(rpc_id: str):
    """Whatever JSON it is, down to its digits."""
    call = read_line(f'{{"id": {rpc_id}, "method": "m"}}'.encode())
    assert isinstance(call, Call)
    assert result_line(call.rpc_id, {}).startswith(b'{"jsonrpc":"2.0","id":' + rpc_id.encode())


def test_half_characters_are_mended():
    """Halves that belong together are one character; a lone half is the mark for one."""
    whole = read_line(b'{"method":"m","params":{"t":"\\ud83d\\ude00 \\ud83d"}}')
    assert whole == Notice("m", {"t": "\U0001f600 \ufffd"})
    broken = read_line(b'{"method":"m","params":{"t":"\xff"}}')
    assert broken == Notice("m", {"t": "\ufffd"})


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":3,"result":{"stopReason":"end_turn","cost":NaN}}',
        b'{"id":3,"result":{"stopReason":"end_turn","cost":-Infinity}}',
        b'{"id":3,"result":{"stopReason":"end_turn","cost":1e999}}',
        b'\xef\xbb\xbf{"id":3,"result":{"stopReason":"end_turn","cost":null}}\r',
        b'\x00{"id":3,"result":{"stopReason":"end_turn","cost":null}}\x00',
        b'{"id":3.0,"result":{"stopReason":"end_turn","cost":null}}',
    ],
)
def test_an_answer_that_is_nearly_one(line: bytes):
    """It is taken as what it means: lost, it would leave a turn waiting for ever."""
    assert read_line(line) == Response(3, {"stopReason": "end_turn", "cost": None})


def test_control_characters_in_a_text():
    """They are of the text, though JSON has them escaped."""
    line = b'{"method":"m","params":{"t":"a\x00b\x1bc\td"}}'
    assert read_line(line) == Notice("m", {"t": "a\0b\x1bc\td"})


@pytest.mark.parametrize("rpc_id", [b'"3"', b"3.5", b"true", b"null"])
def test_an_answer_to_nothing_of_ours(rpc_id: bytes):
    """An id that no request of ours has stays none."""
    assert read_line(b'{"id":' + rpc_id + b',"result":{}}') == Response(None, {})


@pytest.mark.parametrize(
    "line",
    [b"", b"hello", b"{", b"[]", b"7", b'{"a":1}', b'{"method":3}', b"[" * 100_000,
     b'{"id":"' + b"x" * 5000 + b'","method":"m"}', b" " * (LINE_BYTES_MAX + 1)],
    ids=range(10),
)  # fmt: skip
def test_what_is_no_message(line: bytes):
    """Nothing is raised, and nothing is made of it."""
    assert read_line(line) is None


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_is_raised(line: bytes):
    """Whatever is in a line, it is a message or it is none."""
    read_line(line)


@given(st.fixed_dictionaries({}, optional={"id": JSON, "method": JSON, "params": JSON,
                                           "result": JSON, "error": JSON}))  # fmt: skip
def test_whatever_stands_in_a_message_nothing_is_raised(message: dict[str, Any]):
    """A field of another type than it should be costs the message at most."""
    read = read_line(json.dumps(message).encode())
    assert read is None or isinstance(read, Call | Notice | Response)


def test_fields_of_another_type_are_empty():
    """What is not there is not invented, and breaks nothing."""
    fields = {"t": 1, "m": [], "l": [1, {"a": 1}, None]}
    assert text_in(fields, "t") == ""
    assert mapping_in(fields, "m") == {}
    assert mappings_in(fields, "l") == [{"a": 1}]
    assert mappings_in(fields, "t") == []

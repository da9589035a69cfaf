"""No secret gets out, nothing else is lost, and where reads end makes no difference."""

import base64
import itertools
import random
import re
import time
import urllib.parse

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node_agent.redaction import Redactor, Rules
from node_agent.secret_forms import FORM_BYTES_MAX, forms_of
from node_agent.secret_patterns import DEFAULT, Pattern, Some

SECRET = b"s3cr3t-Value+with/odd=chars"
VALUES = [SECRET, b"abcabc", b"hunter2hunter2", b"A1b2C3d4E5f6G7h8I9j0K1l2M3n4"]
PEM = (
    b"-----BEGIN RSA PRIVATE KEY-----\n"
    + b"MIIEowIBAAKCAQEAxyz0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHI\n" * 3
    + b"short==\n-----END RSA PRIVATE KEY-----"
)
#: What a pattern hides, with the text that has to stand in its place.
EXAMPLES = {
    b"ghp_" + b"a1B2" * 9: b"[redacted:github-token]",
    b"gho_" + b"a1B2" * 9: b"[redacted:github-token]",
    b"github_pat_" + b"a1B2" * 5 + b"ab_" + b"x" * 59: b"[redacted:github-token]",
    b"sk-" + b"a1B2" * 12: b"[redacted:api-key]",
    b"sk-ant-api03-" + b"a-B_" * 20 + b"AA": b"[redacted:api-key]",
    b"sk-proj-" + b"a-B_" * 20: b"[redacted:api-key]",
    b"AKIA" + b"A1B2" * 4: b"[redacted:aws-key]",
    b"xoxb-123456789012-abcdef": b"[redacted:slack]",
    PEM: b"[redacted:private-key]",
    PEM.replace(b"\n", b"\\n"): b"[redacted:private-key]",
    b"Bearer abcdefghijklmnop.qrst": b"Bearer ***",
    b"Authorization: Basic dXNlcjpwYXNz": b"Authorization: Basic ***",
    b'"authorization": "token 0123456789"': b'"authorization": "token ***"',
    b"https://user:pa55w:rd@example.org/x": b"https://user:***@example.org/x",
    b"https://abcdefghijklmnopqrstuv@example.org/x": b"https://***@example.org/x",
}
COLOUR = re.compile(rb"\x1b\[[0-9;:]{0,32}m")


def redact(raw: bytes, values: list[bytes] | None = None) -> bytes:
    """Redact a whole text at once."""
    redactor = Redactor(VALUES if values is None else values)
    return redactor.feed(raw) + redactor.flush()


def model(raw: bytes, values: list[bytes]) -> bytes:
    """Do the same byte by byte, with every form and pattern tried at every place."""
    codes: dict[int, bytes] = {}
    text = b""
    position = 0
    for code in COLOUR.finditer(raw):
        text += raw[position : code.start()]
        codes[len(text)] = codes.get(len(text), b"") + code.group()
        position = code.end()
    text += raw[position:]
    places = []
    forms = forms_of(values)
    for start in range(len(text)):
        places += [
            (start, -(start + len(form)), b"***") for form in forms if text.startswith(form, start)
        ]
        for pattern in DEFAULT:
            if pattern.apart and start and text[start - 1 : start].isalnum():
                continue
            if found := pattern.whole.match(text, start):
                group = 1 if pattern.whole.groups else 0
                places.append((found.start(group), -found.end(group), pattern.marker))
    hidden: dict[int, bytes] = {}
    reach = -1
    for start, minus_end, marker in sorted(places):
        if start >= reach:
            hidden[start] = marker
        for index in range(max(start, reach), -minus_end):
            hidden.setdefault(index, b"")
        reach = max(reach, -minus_end)
    output = b""
    for index in range(len(text)):
        output += codes.get(index, b"") + hidden.get(index, text[index : index + 1])
    return output + codes.get(len(text), b"")


def begun_secrets() -> st.SearchStrategy[bytes]:
    """Generate secrets whole and in part, so that near misses are as frequent as hits."""
    whole = st.sampled_from([*EXAMPLES, *VALUES, base64.b64encode(b"x" + SECRET)])
    return whole | st.tuples(whole, st.integers(0, 40), st.integers(0, 40)).map(
        lambda cut: cut[0][cut[1] : len(cut[0]) - cut[2]]
    )


text_st = st.lists(
    st.one_of(
        begun_secrets(),
        st.sampled_from([b"\n", b" ", b"\x1b[31m", b"\x1b[0m", b"\x1b[", b"\x1b", b"\x1b[K", b"a"]),
        st.sampled_from([b"://", b"sk-", b"ghp_", b"-----BEGIN ", b"@", b":", b"abc", b"earer "]),
        st.binary(max_size=5),
    ),
    max_size=10,
).map(b"".join)

coloured_st = st.tuples(text_st, st.lists(st.integers(0, 300), max_size=4)).map(
    lambda made: b"".join(
        made[0][start:end] + b"\x1b[1;32m"
        for start, end in itertools.pairwise([0, *sorted(made[1]), len(made[0])])
    )
)


@given(text_st | coloured_st)
def test_the_output_is_that_of_the_model(raw: bytes) -> None:
    """Searching fast finds what trying everything everywhere finds."""
    assert redact(raw) == model(raw, VALUES)


@settings(max_examples=300)
@given(text_st | coloured_st, st.lists(st.integers(0, 400), max_size=8))
@example(b"abcabcabcabc", [3, 7])
@example(b"\x1b[1mabc\x1b[0mabc\x1b[2mabc", [2, 9, 12])
@example(b"https://user:pass@", [3, 12, 17])
@example(PEM + b"\nafter", [10, 100, 240, 262])
def test_where_reads_end_makes_no_difference(raw: bytes, cuts: list[int]) -> None:
    """Any split into reads gives the bytes of one read."""
    redactor = Redactor(VALUES)
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    output = b"".join(redactor.feed(raw[start:end]) for start, end in itertools.pairwise(edges))
    assert output + redactor.flush() == redact(raw)


@pytest.mark.parametrize("secret", [*EXAMPLES, *VALUES])
def test_every_split_point_of_every_secret(secret: bytes) -> None:
    """A secret cut anywhere, or fed byte by byte, is hidden as if it were whole."""
    raw = b"before " + secret + b" after\n"
    expected = redact(raw)
    assert secret not in expected
    for cut in range(len(raw) + 1):
        redactor = Redactor(VALUES)
        assert redactor.feed(raw[:cut]) + redactor.feed(raw[cut:]) + redactor.flush() == expected
    redactor = Redactor(VALUES)
    assert b"".join(redactor.feed(raw[i : i + 1]) for i in range(len(raw))) == expected


@pytest.mark.parametrize(("secret", "shown"), EXAMPLES.items())
def test_known_kinds_of_secret_are_hidden(secret: bytes, shown: bytes) -> None:
    """Each pattern hides its kind and leaves what stands around it."""
    assert redact(b"see: " + secret + b" <\n", []) == b"see: " + shown + b" <\n"


@pytest.mark.parametrize("secret", [*EXAMPLES, *VALUES])
def test_secrets_are_found_in_the_middle_of_much_else(secret: bytes) -> None:
    """The searches that rule secrets out in bulk never rule out one that is there."""
    plain = b"a line of ordinary words, 12:34:56, src/module_name/file-name.py\n" * 40
    busy = b"commit 0123456789abcdef0123456789abcdef01234567\n" * 80
    for around in (plain, busy, plain + busy):
        raw = around + b"x " + secret + b" y\n" + around
        expected = around + redact(b"x " + secret + b" y\n") + around
        assert redact(raw) == expected
        assert redact(raw[: -len(around)] + b"$ ") == expected[: -len(around)] + b"$ "


@given(st.integers(0, 3000), st.sampled_from([*EXAMPLES, *VALUES]), st.booleans())
def test_a_secret_over_the_end_of_a_long_read_is_hidden(
    cut: int, secret: bytes, coloured: bool
) -> None:
    """Large reads keep back what may begin a secret, with colours before it or not."""
    line = b"\x1b[32mok\x1b[0m some output\n" if coloured else b"ok some output\n"
    raw = line * 200 + b"key=" + secret + b" \n"
    at = max(len(raw) - cut, 0)
    redactor = Redactor(VALUES)
    output = redactor.feed(raw[:at]) + redactor.feed(raw[at:]) + redactor.flush()
    assert output == line * 200 + redact(b"key=" + secret + b" \n")


@pytest.mark.parametrize(
    "form",
    [
        urllib.parse.quote(SECRET, safe="").encode(),
        urllib.parse.quote_plus(SECRET).encode(),
        *(base64.b64encode(b"user:"[:n] + SECRET + b":tail") for n in range(4)),
        *(base64.urlsafe_b64encode(b"user:"[:n] + SECRET) for n in range(4)),
    ],
)
def test_encoded_values_are_hidden(form: bytes) -> None:
    """URL encoding and base64 at any alignment do not carry a value out."""
    shown = redact(b"x" + form + b"\n", [SECRET])
    assert b"***" in shown
    for start in range(len(form) - 12):
        assert form[start : start + 12] not in shown


def test_a_value_in_json_is_hidden() -> None:
    """A value whose quotes are escaped is still the value."""
    assert redact(b'{"k": "pass\\"word\\\\1"}', [b'pass"word\\1']) == b'{"k": "***"}'


def test_a_value_of_many_lines_is_hidden_by_lines() -> None:
    """Each line of a key is a secret of its own, whatever ends it or stands before it."""
    value = b"first line of it\nsecond line of it\n  x\n"
    assert (
        redact(b"> first line of it\r\n> second line of it\r\n", [value]) == b"> ***\r\n> ***\r\n"
    )


def test_short_values_are_left_alone() -> None:
    """A value under six bytes is a word of the log."""
    assert redact(b"the cat sat on 12345 mats\n", [b"cat", b"12345", b""]) == (
        b"the cat sat on 12345 mats\n"
    )


def test_a_long_value_is_hidden_in_parts() -> None:
    """A value longer than may be held back leaves nothing, and little is held back."""
    value = bytes(random.Random(1).choices(b"abcdefghijklmnop", k=3 * FORM_BYTES_MAX + 1000))
    redactor = Redactor([value])
    output = b""
    for start in range(0, len(value), 1000):
        output += redactor.feed(value[start : start + 1000])
        assert redactor.held_bytes <= 2 * FORM_BYTES_MAX
    assert set(output + redactor.feed(b"\n")) <= set(b"*\n")


def test_overlapping_values_leave_no_tail() -> None:
    """Of two values that share bytes, or one that meets itself, nothing is left over."""
    assert redact(b"xabcdefghijy\n", [b"abcdefg", b"defghij"]) == b"x***y\n"
    assert redact(b"xabcabcabcy\n", [b"abcabc"]) == b"x***y\n"
    assert redact(b"xabcabcabcabcy", [b"abcabc"]) == b"x***y"


def test_of_secrets_that_begin_together_the_longest_is_named() -> None:
    """A value that is also a known kind of token is named alike wherever reads end."""
    token = b"ghp_" + b"a1B2" * 9
    for cut in range(len(token) + 2):
        redactor = Redactor([token[:12]])
        raw = token + b" \n"
        output = redactor.feed(raw[:cut]) + redactor.feed(raw[cut:])
        assert output == b"[redacted:github-token] \n"


def test_a_whole_value_is_hidden_at_once() -> None:
    """What is certain to be a secret does not wait for what follows it."""
    assert Redactor([b"s3cr3t-value"]).feed(b"x s3cr3t-value") == b"x ***"


@pytest.mark.parametrize("gap", range(1, 60))
def test_what_is_held_back_of_dense_colours_is_held_exactly(gap: int) -> None:
    """Wherever codes lie before a possible beginning, all before it is out, and only that."""
    raw = b"\x1b[38;5;12ma" * 400 + b"." * gap + b"ghp_" + b"a\x1b[0m" * 20
    redactor = Redactor(VALUES)
    assert redactor.feed(raw) == raw[: raw.index(b"ghp_")]
    assert redactor.feed(b" \n") == raw[raw.index(b"ghp_") :] + b" \n"


@pytest.mark.parametrize("code", [b"\x1b[38;5;12%dm" % 10**n for n in range(8)])
def test_codes_before_what_is_held_back_are_held_with_it(code: bytes) -> None:
    """Output ends between codes, never inside one, however many there are."""
    redactor = Redactor(VALUES)
    assert redactor.feed(b"text:" + code * 30 + b"ghp_") == b"text:"
    assert redactor.feed(b"a1B2" * 9 + b" ") == code * 30 + b"[redacted:github-token] "


def test_colour_codes_inside_a_secret_do_not_hide_it_and_stay() -> None:
    """A secret printed in pieces of colour is found; the colours go on as they were."""
    assert redact(b"k=\x1b[1m\x1b[4mabc\x1b[31ma\x1b[0mbc\x1b[2m!\n") == (
        b"k=\x1b[1m\x1b[4m***\x1b[31m\x1b[0m\x1b[2m!\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        b"lone line\n",
        b"Password: ",
        b"$ ",
        b"Continue? [y/N] ",
        b"http://localhost:3000/ ",
        b"\x1b[32m>\x1b[0m ",
        b"see -----BEGIN CERTIFICATE-----\n",
        b"task-abcdefghijklmnopqrstuvwxyz.",
        b"sk-learn is fine\n",
        b"50% \r",
    ],
)
def test_what_cannot_begin_a_secret_shows_at_once(line: bytes) -> None:
    """A line or prompt on its own is not held back for what may follow it."""
    assert Redactor(VALUES).feed(line) == line


@pytest.mark.parametrize(
    "text",
    [
        b"the bearer of this letter\n",
        b"risk-averse-and-very-long-kebab-case-name\n",
        b"AKIAlowercaseisnotakey000\n",
        b"user@example.org wrote to https://example.org/@handle\n",
        b"authorization: required\n",
        b"-----BEGIN PRIVATE KEY-----\nis how a key begins\n",
        b"-----BEGIN PUBLIC KEY-----\n" + b"A" * 64 + b"\n",
        b"sha256:" + b"0123456789abcdef" * 4 + b"\n",
    ],
)
def test_ordinary_text_is_left_alone(text: bytes) -> None:
    """Words that resemble a secret's beginning are no secret."""
    assert redact(text) == text


def test_only_the_possible_beginning_is_held_back() -> None:
    """Of a line that ends in what may be a secret, all before that is out."""
    redactor = Redactor(VALUES)
    assert redactor.feed(b"token: ghp_a1B2") == b"token: "
    assert redactor.raw_consumed == 7
    assert redactor.held_bytes == 8
    assert redactor.feed(b" no\n") == b"ghp_a1B2 no\n"
    assert redactor.raw_consumed == 19


def test_the_earliest_possible_beginning_is_held_back() -> None:
    """A beginning inside another does not let go of the first part of the other."""
    values = [b"foohunt-secret", b"hunter2hunter2"]
    redactor = Redactor(values)
    assert redactor.feed(b"huh foohunt") == b"huh "
    assert redactor.feed(b"-secret\n") == b"***\n"
    redactor = Redactor([b"zebrahunt-secret", b"hunter2hunter2"])
    assert redactor.feed(b"zebra? zeb zebrahunt") == b"zebra? zeb "


def test_hold_back_is_bounded_for_endless_tokens() -> None:
    """A token or key without end does not fill memory, and output goes on."""
    for endless in (b"ghp_", b"sk-", b"https://u:", b"Bearer ", b"-----BEGIN PRIVATE KEY-----\n"):
        redactor = Redactor(VALUES)
        redactor.feed(endless)
        emitted = 0
        for _ in range(60):
            emitted += len(redactor.feed(b"A" * 1000))
            assert redactor.held_bytes < 40_000
        assert emitted > 10_000


@given(text_st | coloured_st, st.lists(st.integers(0, 400), max_size=5))
def test_another_goes_on_where_one_was_killed(raw: bytes, cuts: list[int]) -> None:
    """From `raw_consumed` and the state, with all else lost, the same bytes come out."""
    first = Redactor(VALUES)
    redactor, output, position = first, b"", 0
    for cut in sorted(min(cut, len(raw)) for cut in cuts):
        if cut > position:
            output += redactor.feed(raw[position:cut])
        state = redactor.state
        assert state.raw_consumed == redactor.raw_consumed
        assert len(state.before) <= 1
        redactor = first.another(state)
        position = state.raw_consumed
    assert output + redactor.feed(raw[position:]) + redactor.flush() == redact(raw)


@given(text_st)
def test_no_value_is_ever_in_the_output(raw: bytes) -> None:
    """Whatever surrounds it, a value does not come out, nor does any of its forms."""
    shown = redact(raw)
    for form in forms_of(VALUES):
        assert form not in shown


def test_markers_are_no_longer_than_what_they_hide() -> None:
    """A chunk never outgrows its bound because secrets were hidden in it."""
    for secret, shown in EXAMPLES.items():
        assert len(shown) <= len(secret)


def test_a_text_of_its_own_leaves_the_stream_alone() -> None:
    """An event is redacted beside a stream that holds something back."""
    redactor = Redactor(VALUES)
    assert redactor.feed(b"abc") == b""
    assert redactor.whole(b"event abcabc abc") == b"event *** abc"
    assert redactor.feed(b"abc\n") == b"***\n"


@given(st.text("ab", max_size=60), st.lists(st.text("ab", min_size=6, max_size=9), max_size=5))
def test_one_search_finds_all_that_is_there(text: str, values: list[str]) -> None:
    """What begins inside of something else sought is found as well."""
    rules = Rules([value.encode() for value in values], ())
    forms, _ = rules._present(text.encode())
    assert sorted(forms) == sorted(form for form in rules._forms if form in text.encode())


def test_many_secrets_do_not_delay_an_execution() -> None:
    """As many values as may be set are ready to be sought at once, not after a minute."""
    rng = random.Random(1)
    values = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyzABCDEF-/", k=40)) for _ in range(256)]
    begun = time.process_time()
    redactor = Redactor(values)
    assert redactor.feed(b"\n".join(values) + b"\n") == b"***\n" * 256
    # A tenth of a second where this was written; comparing all forms with all took 72.
    assert time.process_time() - begun < 10


def test_a_pattern_begins_with_a_text() -> None:
    """A pattern without an anchor could not be searched for, and says so where it is written."""
    with pytest.raises(TypeError, match="odd"):
        Pattern("odd", Some(b"a-z", 1, 2))


def test_how_fast_clean_output_passes() -> None:
    """Print the speed for clean output with ten values; a machine's speed is not asserted."""
    rng = random.Random(1)
    values = [
        bytes(rng.choices(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz012345", k=30))
        for _ in range(10)
    ]
    line = b"The quick brown Fox jumps. over: [lazy] dog-like /usr/lib/python3 12:34:56 again\n"
    read = (line * 900)[: 64 * 1024]
    redactor = Redactor(rules=Rules(values, DEFAULT))
    begun = time.perf_counter()
    for _ in range(100):
        redactor.feed(read)
    print(f"{100 * len(read) / (time.perf_counter() - begun) / 1e6:.0f} MB/s")  # noqa: T201  the point
    assert redactor.raw_consumed + redactor.held_bytes == 100 * len(read)

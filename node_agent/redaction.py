"""Hides secrets in a stream of output, wherever its reads happen to end.

Owns what of a stream may be emitted, what stands in place of a secret, and how much of the end
has to be held back because it may be the beginning of one. Pure: bytes in, bytes out.

The output is a function of the whole stream, not of its pieces. All places where a secret stands
are found, in the text without its colour codes; places that overlap are one; each is replaced by
the marker of the secret that begins first, and the colour codes in it stay. A piece of the stream
is decided once nothing that may still come can change it, and only then emitted.
"""

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from node_agent.secret_forms import forms_of
from node_agent.secret_patterns import DEFAULT, Pattern

VALUE_MARKER: Final = b"***"

_ESCAPE: Final = b"\x1b"
_COLOUR: Final = re.compile(rb"\x1b\[[0-9;:]{0,32}m")
_COLOUR_BEGUN: Final = re.compile(rb"\x1b(?:\[[0-9;:]{0,32})?\Z")
_COLOUR_BYTES_MAX: Final = 35
#: How far from its end a text is searched for the anchors of patterns that a `gate` would
#: otherwise have ruled out: none of those patterns is longer.
_TAIL_BYTES: Final = 512
#: Up to about so many at a time are sought with the processor's vector instructions.
_SOUGHT_TOGETHER_MAX: Final = 32


class RedactorState(NamedTuple):
    """What it takes to go on with a stream from raw byte `raw_consumed`.

    `before`: the text's last byte before it. `covered`: how many bytes of text from it on belong
    to a secret whose marker is already out.
    """

    raw_consumed: int = 0
    before: bytes = b""
    covered: int = 0


class _Place(NamedTuple):
    """A secret stands at `text[start:end]`."""

    start: int
    end: int
    marker: bytes


class Rules:
    """Everything there is to find, prepared once and shared by all streams of an execution."""

    def __init__(self, values: Iterable[bytes], patterns: Sequence[Pattern]) -> None:
        self._forms = forms_of(values)
        self._patterns = tuple(patterns)
        sought = sorted({*self._forms, *(pattern.anchor for pattern in self._patterns)})
        self._searches = [
            (group, BytesAhoCorasick(group, matchkind=MatchKind.LeftmostFirst))
            for group in _grouped(sought)
        ]
        # What may stand unfinished at the end of a text, by its first two bytes.
        self._beginnings: dict[bytes, list[bytes]] = {}
        for one in sought:
            self._beginnings.setdefault(one[:2], []).append(one)
        self._by_first_byte: dict[bytes, list[bytes]] = {}
        for one in sought:
            self._by_first_byte.setdefault(one[:1], []).append(one)
        # Of all pairs, few are ever asked for: with many secrets all would take minutes.
        self._hidden_by: dict[bytes, list[bytes]] = {}
        self._longest = max(map(len, sought), default=0)

    def places(self, text: bytes, before: bytes) -> tuple[list[_Place], int]:
        """Return where secrets stand, in order, and from where on nothing is decided yet."""
        forms, patterns = self._present(text)
        places = [
            _Place(start, start + len(form), VALUE_MARKER)
            for form in forms
            for start in _occurrences(text, form)
        ]
        undecided = self._unfinished(text)
        last_line = text.rfind(b"\n") + 1
        for pattern in patterns:
            for start in _occurrences(text, pattern.anchor):
                if pattern.apart and (text[start - 1 : start] if start else before).isalnum():
                    continue
                may_grow = start < undecided and (start >= last_line or pattern.lines)
                if may_grow and pattern.begun.match(text, start):
                    undecided = start
                found = pattern.whole.match(text, start)
                if found:
                    group = 1 if pattern.whole.groups else 0
                    places.append(_Place(found.start(group), found.end(group), pattern.marker))
        # Of those that begin together the longest gives the marker.
        places.sort(key=lambda place: (place.start, -place.end, place.marker))
        return places, undecided

    def _present(self, text: bytes) -> tuple[list[bytes], list[Pattern]]:
        """Return the forms and patterns that can have a place in the text; others cannot."""
        sought = self._sought_in(text)
        if not sought:
            return [], []
        # At an open end a pattern may have begun that does not yet show what else it must have.
        tail = b"" if text.endswith(b"\n") else text[-_TAIL_BYTES:]
        patterns = [
            pattern
            for pattern in self._patterns
            if pattern.anchor in sought and (pattern.gate in text or pattern.anchor in tail)
        ]
        return [form for form in self._forms if form in sought], patterns

    def _sought_in(self, text: bytes) -> set[bytes]:
        found: set[bytes] = set()
        for group, search in self._searches:
            found.update(group[index] for index, _, _ in search.find_matches_as_indexes(text))
        # The search goes on behind what it finds, so what begins inside that is looked for apart.
        for one in list(found):
            hidden = self._hidden_by.get(one)
            if hidden is None:
                hidden = self._hidden_by[one] = self._hidden_inside(one)
            found.update(other for other in hidden if other in text)
        return found

    def _hidden_inside(self, one: bytes) -> list[bytes]:
        """Return what may begin inside `one`: the search that finds `one` passes over it."""
        hidden = set(self._by_first_byte.get(one[-1:], ()))
        for place in range(len(one) - 1):
            for other in self._beginnings.get(one[place : place + 2], ()):
                if one.startswith(other, place) or other.startswith(one[place:]):
                    hidden.add(other)
        hidden.discard(one)
        return sorted(hidden)

    def _unfinished(self, text: bytes) -> int:
        """Return where something sought begins that the end of the text cuts off, else the end."""
        size = len(text)
        # Nothing sought has a newline in it.
        start = max(text.rfind(b"\n") + 1, size - self._longest)
        if start >= size:
            return size
        tail = text[start:]
        first = len(tail) - (tail[-1:] in self._by_first_byte)
        for pair, group in self._beginnings.items():
            position = tail.find(pair, 0, first + 1)
            while position >= 0:
                rest = tail[position:]
                if any(len(rest) < len(one) and one.startswith(rest) for one in group):
                    first = position
                    break
                position = tail.find(pair, position + 1, first + 1)
        return start + first


def _occurrences(text: bytes, sought: bytes) -> Iterator[int]:
    # Overlapping ones too: of `abcabcab` nothing may stay when `abcab` is secret.
    position = text.find(sought)
    while position >= 0:
        yield position
        position = text.find(sought, position + 1)


def _grouped(sought: Sequence[bytes]) -> list[list[bytes]]:
    starts = range(0, len(sought), _SOUGHT_TOGETHER_MAX)
    return [list(sought[start : start + _SOUGHT_TOGETHER_MAX]) for start in starts]


class _Alignment:
    """Where the bytes of a text without colour codes stand in the raw bytes it came from."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._text_ends: list[int] = []
        self._shifts: list[int] = []
        position = shift = 0
        for code in _COLOUR.finditer(raw):
            if code.start() > position:
                self._text_ends.append(code.start() - shift)
                self._shifts.append(shift)
            shift += code.end() - code.start()
            position = code.end()
        self._text_ends.append(len(raw) - shift)
        self._shifts.append(shift)

    @property
    def text_bytes(self) -> int:
        return self._text_ends[-1]

    def after(self, count: int) -> int:
        """Return where in the raw bytes the first `count` bytes of text end."""
        if count == 0:
            return 0
        return count + self._shifts[bisect.bisect_left(self._text_ends, count)]


class Redactor:
    """Redacts one stream. `another()` makes one with the same rules for another stream."""

    def __init__(
        self,
        values: Iterable[bytes] = (),
        patterns: Sequence[Pattern] = DEFAULT,
        *,
        rules: Rules | None = None,
        state: RedactorState | None = None,
    ) -> None:
        self._rules = rules if rules is not None else Rules(values, patterns)
        self._state = state if state is not None else RedactorState()
        self._held = b""

    def another(self, state: RedactorState | None = None) -> "Redactor":
        """Return a redactor with these rules, fresh or going on from `state`."""
        return Redactor(rules=self._rules, state=state)

    @property
    def raw_consumed(self) -> int:
        """The first raw byte not yet emitted, counted from the stream's beginning."""
        return self._state.raw_consumed

    @property
    def state(self) -> RedactorState:
        """What one who goes on from `raw_consumed` has to know."""
        return self._state

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def feed(self, raw: bytes) -> bytes:
        """Return what of the stream up to here is decided and was not yet returned."""
        return self._decide(self._held + raw if self._held else raw, final=False)

    def flush(self) -> bytes:
        """Return the rest: nothing more will come."""
        return self._decide(self._held, final=True)

    def whole(self, raw: bytes) -> bytes:
        """Return `raw` redacted as a text of its own, beside the stream."""
        one = self.another()
        return one.feed(raw) + one.flush()

    def _decide(self, raw: bytes, *, final: bool) -> bytes:
        rest = b""
        text = raw
        coloured = _ESCAPE in raw
        if coloured:
            last = raw.rfind(_ESCAPE)
            if (
                not final
                and len(raw) - last <= _COLOUR_BYTES_MAX
                and _COLOUR_BEGUN.match(raw, last)
            ):
                raw, rest = raw[:last], raw[last:]
            text = _COLOUR.sub(b"", raw)
        _, before, covered = self._state
        places, undecided = self._rules.places(text, before)
        if final:
            undecided = len(text)
        if not places and not covered:
            # The way of nearly all output: as it came, but perhaps for its end.
            split = len(raw)
            if undecided < len(text):
                split = _end_of_text(raw, len(text), undecided) if coloured else undecided
            output = raw if split == len(raw) else raw[:split]
        else:
            alignment = _Alignment(raw) if coloured else None
            output, split, covered = _replace(raw, text, alignment, places, undecided, covered)
        self._held = (raw[split:] if split < len(raw) else b"") + rest
        self._state = RedactorState(
            self._state.raw_consumed + split,
            text[undecided - 1 : undecided] if undecided else before,
            covered,
        )
        return output


def _replace(
    raw: bytes,
    text: bytes,
    alignment: _Alignment | None,
    places: Sequence[_Place],
    undecided: int,
    covered: int,
) -> tuple[bytes, int, int]:
    """Return the output up to `undecided`, the raw bytes it stands for, and what is covered on."""

    def end_of(count: int) -> int:
        if alignment is None:
            return count
        return len(raw) if count == len(text) else alignment.after(count)

    def hide(start: int, end: int, marker: bytes) -> None:
        if alignment is None:
            output.append(marker)
            return
        inside = raw[end_of(start) : end_of(end)]
        leading = _COLOUR.match(inside)
        while leading:
            output.append(leading.group())
            inside = inside[leading.end() :]
            leading = _COLOUR.match(inside)
        output.append(marker)
        output.extend(_COLOUR.findall(inside))

    output: list[bytes] = []
    end = min(covered, undecided)
    if end:
        hide(0, end, b"")
    chain_end = covered
    for place in places:
        if place.start >= undecided:
            break
        if place.start >= chain_end:
            output.append(raw[end_of(end) : end_of(place.start)])
            end = min(place.end, undecided)
            hide(place.start, end, place.marker)
            chain_end = place.end
        elif place.end > chain_end:
            grown = min(place.end, undecided)
            if grown > end:
                hide(end, grown, b"")
                end = grown
            chain_end = place.end
    output.append(raw[end_of(end) : end_of(undecided)])
    return b"".join(output), end_of(undecided), max(chain_end - undecided, 0)


def _end_of_text(raw: bytes, text_bytes: int, count: int) -> int:
    """Return where the first `count` bytes of text end, looking from the end of `raw`.

    What is undecided is nearly always a few bytes; the colour codes of all the rest are not
    looked at.
    """
    if count == 0:
        return 0
    from_end = text_bytes - count
    span = 2 * from_end + 64
    while span < len(raw):
        start = len(raw) - span
        code = raw.rfind(_ESCAPE, max(start - _COLOUR_BYTES_MAX, 0), start)
        cut = _COLOUR.match(raw, code) if code >= 0 else None
        if cut is not None and cut.end() > start:
            start = cut.end()
        alignment = _Alignment(raw[start:])
        if alignment.text_bytes > from_end:
            return start + alignment.after(alignment.text_bytes - from_end)
        span *= 4
    return _Alignment(raw).after(count)

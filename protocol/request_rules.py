"""Rules that answer an agent's wish to use a tool: how they are written, and what one may hold.

A rule is `KIND[:TOOL[:TARGET]]`, each a pattern of shells (`*`, `?`, `[...]`), such as
`execute:*:git diff*`. What is left out is `*`. Pure; which rule fits is the node's to judge.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from protocol.errors import ErrorCode, OperationError
from protocol.wrong_fields import wrong_field

RULES_MAX: Final = 200
RULE_CHARACTERS_MAX: Final = 500
#: Of a project.
_FIELD: Final = "policies.requests"
_HINT: Final = "A rule is KIND[:TOOL[:TARGET]], such as read or execute:*:git diff*."


class RequestRules(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed and what is denied without asking a person. Empty: every time, ask."""

    allow: list[str] = []
    deny: list[str] = []


class Rule(NamedTuple):
    """One rule: patterns of a tool's kind, its name and its target; and as it was written."""

    kind: str
    tool: str
    target: str
    text: str


def parse_rule(text: str, field: str = "") -> Rule:
    """Return a rule. Raises OperationError naming `field` where it is none."""
    kind, _, rest = text.strip().partition(":")
    tool, _, target = rest.partition(":")
    if not kind.strip() or not text.isprintable() or len(text) > RULE_CHARACTERS_MAX:
        raise OperationError(
            ErrorCode.INVALID,
            f"{text[:60]!r} is no rule for requests",
            hint=_HINT,
            field=field,
        )
    return Rule(kind.strip(), tool.strip() or "*", target.strip() or "*", text.strip())


def check_rules(rules: RequestRules, field: str) -> None:
    """Raise OperationError naming the field where these rules cannot be used."""
    for name, texts in (("allow", rules.allow), ("deny", rules.deny)):
        if len(texts) > RULES_MAX:
            raise OperationError(
                ErrorCode.INVALID,
                f"{field}.{name} has {len(texts)} rules; at most {RULES_MAX}",
                field=f"{field}.{name}",
            )
        for text in texts:
            parse_rule(text, f"{field}.{name}")


def usable_rules(texts: Iterable[str]) -> list[Rule]:
    """Return the rules that can be read; another release may write others."""
    rules = []
    for text in texts:
        try:
            rules.append(parse_rule(text))
        except OperationError:
            continue
    return rules[:RULES_MAX]


def rules_of_settings(policies: dict[str, Any]) -> RequestRules:
    """Return the rules in a project's `policies`: its key `requests`. None there: ask.

    Raises OperationError naming the field where they cannot be used.
    """
    try:
        rules = msgspec.convert(policies.get("requests") or {}, _StrictRules)
    except msgspec.ValidationError as error:
        wrong = wrong_field(error, _FIELD)
        raise OperationError(
            ErrorCode.INVALID, wrong.message, hint=_HINT, field=wrong.field
        ) from error
    check_rules(rules, _FIELD)
    return RequestRules(allow=rules.allow, deny=rules.deny)


class _StrictRules(RequestRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As a person writes them: a word that means nothing is a mistake."""

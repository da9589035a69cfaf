"""Rules for requests as people write them: read, or refused with the field."""

from typing import Any

import pytest

from protocol.errors import OperationError
from protocol.request_rules import (
    RULES_MAX,
    RequestRules,
    Rule,
    parse_rule,
    rules_of_settings,
    usable_rules,
)


def test_what_is_left_out_is_anything():
    """A target may hold colons of its own."""
    assert parse_rule("read") == Rule("read", "*", "*", "read")
    assert parse_rule("execute:Bash") == Rule("execute", "Bash", "*", "execute:Bash")
    assert parse_rule(" fetch::https://a.example/* ")[:3] == ("fetch", "*", "https://a.example/*")


@pytest.mark.parametrize("text", ["", " ", ":Bash", "read\n", "x" * 501])
def test_what_is_no_rule(text: str):
    """It is refused by name where a person writes it, and left out where it came from elsewhere."""
    with pytest.raises(OperationError) as wrong:
        parse_rule(text, "requests_allow")
    assert wrong.value.details["field"] == "requests_allow"
    assert usable_rules([text, "read"]) == [parse_rule("read")]


def test_a_projects_policies():
    """Under `requests`; without it, a person is asked."""
    assert rules_of_settings({}) == RequestRules()
    policies = {"requests": {"allow": ["read"], "deny": ["execute"]}}
    assert rules_of_settings(policies) == RequestRules(allow=["read"], deny=["execute"])


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ({"alow": []}, "policies.requests.alow"),
        ({"allow": "read"}, "policies.requests.allow"),
        ({"allow": [""]}, "policies.requests.allow"),
        ({"deny": ["read"] * (RULES_MAX + 1)}, "policies.requests.deny"),
    ],
)
def test_what_a_project_cannot_have(requests: Any, field: str):
    """A word that means nothing is a mistake, and named."""
    with pytest.raises(OperationError) as wrong:
        rules_of_settings({"requests": requests})
    assert wrong.value.details["field"] == field

"""Rules that answer for people: only what they plainly say, deny before allow, else ask."""

from typing import Any

import pytest

from node_agent.request_drafts import Draft
from node_agent.sessions.request_policy import Verdict, judge, session_rule_of, tool_key
from node_agent.store.session_rules import SessionRule
from protocol.conversation import FileDiff, RequestKind, RequestOption, ToolCall
from protocol.request_rules import RequestRules

OPTIONS = [
    RequestOption(id="always", name="Always", kind="allow_always"),
    RequestOption(id="yes", name="Yes", kind="allow_once"),
    RequestOption(id="no", name="No", kind="reject_once"),
    RequestOption(id="never", name="Never", kind="reject_always"),
]


def tool(target: str = "git status", kind: str = "execute", **fields: Any) -> ToolCall:
    """A tool call."""
    return ToolCall(id="t", name=fields.pop("name", "Bash"), kind=kind, target=target, **fields)


def draft(used: ToolCall | None, **fields: Any) -> Draft:
    """A wish to use a tool."""
    wanted = {"kind": RequestKind.APPROVAL, "title": "May I?", "options": OPTIONS}
    return Draft(execution_id="e", key="1", attempt_id="a", tool=used, **(wanted | fields))


def judged(used: ToolCall | None, *, said: Any = (), **rules: list[str]) -> Verdict | None:
    """What these rules of the node make of a tool."""
    return judge(draft(used), session=said, node=RequestRules(**rules), project=RequestRules())


def test_without_a_rule_a_person_is_asked():
    """Nothing is allowed by default."""
    assert judged(tool()) is None


def test_a_rule_answers_once_and_says_so():
    """It takes the option for this time, and its name and scope are the answer's author."""
    verdict = judged(tool(), allow=["execute:Bash:git status*"])
    assert verdict == Verdict("yes", "node: allow execute:Bash:git status*")
    project = RequestRules(allow=["read"])
    verdict = judge(draft(tool("a.py", "read")), session=[], node=RequestRules(), project=project)
    assert verdict == Verdict("yes", "project: allow read")


def test_deny_goes_before_allow_wherever_it_stands():
    """What one list denies no other allows."""
    rules = RequestRules(deny=["execute:*:git push*"])
    verdict = judge(
        draft(tool("git push origin")), session=[], node=RequestRules(allow=["*"]), project=rules
    )
    assert verdict == Verdict("no", "project: deny execute:*:git push*")


@pytest.mark.parametrize(
    "target",
    [
        "git status; rm -rf /",
        "git status && curl evil",
        "git status | sh",
        "git status > /etc/passwd",
        "git status $(rm x)",
        "git status `rm x`",
        "git status\nrm x",
    ],
)
def test_a_pattern_allows_no_second_command(target: str):
    """A `*` stands for arguments, not for what a shell makes another command of."""
    assert judged(tool(target), allow=["execute:*:git status*"]) is None
    # Written out in full it is what a person allowed.
    if target.isprintable():
        assert judged(tool(target), allow=[f"execute:*:{target}"]) is not None


def test_a_pattern_allows_no_way_out_of_a_folder():
    """`src/*` is what lies in it; every file that is touched has to be."""
    allow = ["edit:*:src/*"]
    assert judged(tool("src/a.py", "edit"), allow=allow) is not None
    assert judged(tool("src/../secret", "edit"), allow=allow) is None
    more = [FileDiff(path="src/a.py"), FileDiff(path="README.md")]
    assert judged(tool("src/a.py", "edit", diffs=more), allow=allow) is None


def test_what_may_have_been_cut_is_not_judged():
    """A rule cannot allow what nobody saw."""
    assert judged(tool("git status " + "x" * 4000), allow=["execute:*:git status*"]) is None
    assert judged(tool("git status " + "x" * 4000), allow=["execute"]) is None
    assert tool_key(tool("a" * 4000)) is None
    assert tool_key(tool(input="x" * 9000)) is None


@pytest.mark.parametrize(
    ("used", "rule"),
    [
        (tool("cd x && rm -rf y"), "execute:*:rm *"),
        (tool("(rm y)"), "execute:*:rm *"),
        (tool("/srv/../etc/passwd", "edit"), "edit:*:/etc/*"),
        (tool("a", "edit", locations=["/etc/x"]), "edit:*:/etc/*"),
        (tool("x" * 4000), "execute"),
    ],
)
def test_a_denial_is_read_widely(used: ToolCall, rule: str):
    """Any part that it fits is enough."""
    assert judged(used, deny=[rule]) == Verdict("no", f"node: deny {rule}")


def test_only_a_yes_or_no_to_a_tool_is_answered():
    """Questions, forms, and requests without such an option are for people."""
    everything = RequestRules(allow=["*"], deny=[])
    for asked in (
        draft(tool(), kind=RequestKind.QUESTION),
        draft(None),
        draft(tool(), form={"properties": {}}),
        draft(tool(), options=[RequestOption(id="x", name="Perhaps")]),
    ):
        assert judge(asked, session=[], node=everything, project=RequestRules()) is None


def test_for_the_session_means_exactly_this():
    """`allow_always` is remembered for the same tool with the same target, and nothing like it."""
    used = tool("npm test", input='{"command":"npm test"}')
    rule = session_rule_of(used, OPTIONS, "always", "ann")
    assert rule is not None
    assert (rule.action, rule.author) == ("allow", "ann")
    assert judged(used, said=[rule]) == Verdict("yes", "allow for the session, as ann said")
    for other in (
        tool("npm test --force", input=used.input),
        tool("npm test", input='{"command":"npm test; rm x"}'),
        tool("npm test", kind="fetch", input=used.input),
        tool("npm test", name="Shell", input=used.input),
    ):
        assert judged(other, said=[rule]) is None
    assert session_rule_of(used, OPTIONS, "yes", "ann") is None
    assert session_rule_of(None, OPTIONS, "always", "ann") is None
    never = session_rule_of(used, OPTIONS, "never", "bob")
    assert judged(used, said=[never], allow=["*"]) == Verdict(
        "no", "deny for the session, as bob said"
    )


def test_a_file_allowed_for_the_session_may_change_again():
    """Of files the path is what was allowed, whatever is written."""
    first = tool("a.py", "edit", diffs=[FileDiff(path="a.py", new_text="1")])
    second = tool("a.py", "edit", diffs=[FileDiff(path="a.py", new_text="2")])
    also = tool("a.py", "edit", diffs=[FileDiff(path="b.py", new_text="2")])
    rule = session_rule_of(first, OPTIONS, "always", "ann") or SessionRule("", "", "")
    assert judged(second, said=[rule]) is not None
    assert judged(also, said=[rule]) is None


def test_no_rule_allows_what_was_not_all_seen():
    """Not of the node, not of the session; a denial of what was seen still holds."""
    used = tool("git status")
    rule = session_rule_of(used, OPTIONS, "always", "ann")
    assert rule is not None
    unseen = draft(used, unseen=True)
    everything = RequestRules(allow=["*"])
    nothing = RequestRules(deny=["execute:*:git *"])
    assert judge(unseen, session=[rule], node=everything, project=everything) is None
    denied = judge(unseen, session=[rule], node=everything, project=nothing)
    assert denied == Verdict("no", "project: deny execute:*:git *")


def test_a_rule_never_says_yes_for_ever():
    """What an agent makes of `allow_always` is its own; only who said that once may mean it."""
    options = [one for one in OPTIONS if one.kind != "allow_once"]
    asked = draft(tool(), options=options)
    rules = RequestRules(allow=["*"])
    assert judge(asked, session=[], node=rules, project=RequestRules()) is None
    said = [SessionRule("allow", tool_key(tool()) or "", "ann")]
    verdict = judge(asked, session=said, node=RequestRules(), project=RequestRules())
    assert verdict == Verdict("always", "allow for the session, as ann said")
    never = [SessionRule("deny", tool_key(tool()) or "", "ann")]
    verdict = judge(asked, session=never, node=rules, project=RequestRules())
    assert verdict == Verdict("no", "deny for the session, as ann said")

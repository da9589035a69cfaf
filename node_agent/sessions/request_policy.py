"""Whether a rule answers what an agent asks, and which: deny before allow, else ask. Pure.

Rules are a node's, a project's, and what a person said for the whole of a session. Only a yes or no
to a tool is ever answered by one. Must not answer where it cannot see all that is asked for.
"""

import functools
import hashlib
import posixpath
import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import Final, NamedTuple

import msgspec

from node_agent.request_drafts import Draft
from node_agent.store.session_rules import SessionRule
from protocol.conversation import RequestKind, RequestOption, ToolCall
from protocol.request_rules import RequestRules, Rule, usable_rules

ALLOW: Final = "allow"
DENY: Final = "deny"
#: The option that a rule takes: once, so that the agent asks again and the rule is seen again. A
#: yes for ever is a person's alone: what the agent makes of it is wider than any rule.
_OPTION_KINDS: Final = {ALLOW: ("allow_once",), DENY: ("reject_once", "reject_always")}
_OPTION_KINDS_SAID: Final = {**_OPTION_KINDS, ALLOW: ("allow_once", "allow_always")}
_FOR_THE_SESSION: Final = {"allow_always": ALLOW, "reject_always": DENY}
#: Kinds whose target is a path; what they write into it is not part of what was allowed.
_OF_FILES: Final = frozenset({"read", "edit", "delete", "move", "search"})
#: Of a command line these begin another command, or another's output: no pattern allows them.
_SHELL: Final = re.compile(r"[;&|<>`$\n\r\\]")
_SEGMENT: Final = re.compile(r"[;&|\n\r()`]+")
#: What is longer was perhaps cut, and what was cut is not judged.
_TARGET_BYTES_MAX: Final = 2 * 1024
_NAME_BYTES_MAX: Final = 512
_PATH_BYTES_MAX: Final = 255
_LISTED_MAX: Final = 15
_TEXTS_BYTES_MAX: Final = 3 * 1024


class Verdict(NamedTuple):
    """A rule's answer: the option it takes, and what it is called."""

    option: str
    rule: str


class _Named(NamedTuple):
    scope: str
    rule: Rule


def judge(
    draft: Draft, *, session: Sequence[SessionRule], node: RequestRules, project: RequestRules
) -> Verdict | None:
    """Return what a rule answers; None: a person is asked."""
    tool = draft.tool
    if draft.kind is not RequestKind.APPROVAL or tool is None or draft.form is not None:
        return None
    key = tool_key(tool)
    said = {rule.action: rule for rule in session if key is not None and rule.tool_key == key}
    for action in (DENY, ALLOW):
        if action == ALLOW and draft.unseen:
            continue
        kinds = (_OPTION_KINDS_SAID if action in said else _OPTION_KINDS)[action]
        option = _option_of(draft.options, kinds)
        if option is None:
            continue
        if action in said:
            author = said[action].author
            return Verdict(option, f"{action} for the session, as {author} said")
        for scope, rule in _rules_of(node, project, action):
            fits = _denies(rule, tool) if action == DENY else _allows(rule, tool)
            if fits:
                return Verdict(option, f"{scope}: {action} {rule.text}")
    return None


def session_rule_of(
    draft_tool: ToolCall | None,
    options: Iterable[RequestOption],
    option_id: str | None,
    author: str,
) -> SessionRule | None:
    """Return what choosing this option says of the whole session; None where nothing."""
    kinds = [one.kind for one in options if one.id == option_id]
    action = _FOR_THE_SESSION.get(kinds[0]) if kinds else None
    if action is None or draft_tool is None:
        return None
    key = tool_key(draft_tool)
    return None if key is None else SessionRule(action, key, author)


def tool_key(tool: ToolCall) -> str | None:
    """Return what names exactly this use of a tool; None where not all of it is seen.

    Of files it is the paths; of all else what the tool is given counts too.
    """
    if not _is_seen_whole(tool):
        return None
    parts: list[object] = [tool.kind, tool.name, tool.target, sorted(_paths_of(tool))]
    if tool.kind not in _OF_FILES or not tool.target:
        texts = [tool.input, *(text for diff in tool.diffs for text in (diff.path, diff.new_text))]
        if sum(len(text.encode()) for text in texts) > _TEXTS_BYTES_MAX:
            return None
        parts += texts
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def _rules_of(node: RequestRules, project: RequestRules, action: str) -> list[_Named]:
    return [
        _Named(scope, rule)
        for scope, rules in (("node", node), ("project", project))
        for rule in usable_rules(rules.deny if action == DENY else rules.allow)
    ]


def _option_of(options: Iterable[RequestOption], kinds: Iterable[str]) -> str | None:
    by_kind = {one.kind: one.id for one in reversed(list(options))}
    return next((by_kind[kind] for kind in kinds if kind in by_kind), None)


def _is_seen_whole(tool: ToolCall) -> bool:
    return (
        len(tool.target.encode()) <= _TARGET_BYTES_MAX
        and len(tool.name.encode()) <= _NAME_BYTES_MAX
        and max(len(tool.diffs), len(tool.locations)) <= _LISTED_MAX
        and all(len(path.encode()) <= _PATH_BYTES_MAX for path in _paths_of(tool))
    )


def _paths_of(tool: ToolCall) -> set[str]:
    return {*(diff.path for diff in tool.diffs), *tool.locations}


def _allows(rule: Rule, tool: ToolCall) -> bool:
    """Whether a rule allows all that is asked for. Where that is not plain, it does not."""
    if not (_is_seen_whole(tool) and _fits(rule.kind, tool.kind) and _fits(rule.tool, tool.name)):
        return False
    if rule.target == "*":
        return True
    targets = {tool.target, *(_paths_of(tool) if tool.kind in _OF_FILES else ())}
    return all(_target_allowed(rule, tool.kind, target) for target in targets - {""}) and any(
        targets
    )


def _target_allowed(rule: Rule, kind: str, target: str) -> bool:
    if target == rule.target:
        return True
    if kind in _OF_FILES and ".." in target.split("/"):
        return False
    if kind not in _OF_FILES and kind != "fetch" and _SHELL.search(target):
        return False
    return _fits(rule.target, target)


def _denies(rule: Rule, tool: ToolCall) -> bool:
    """Whether a rule denies anything of what is asked for."""
    if not (_fits(rule.kind, tool.kind) and _fits(rule.tool, tool.name)):
        return False
    targets = {tool.target, *_paths_of(tool)}
    if tool.kind in _OF_FILES:
        targets |= {posixpath.normpath(target) for target in targets if target}
    else:
        targets |= {part.strip() for target in list(targets) for part in _SEGMENT.split(target)}
    return rule.target == "*" or any(_fits(rule.target, target) for target in targets)


def _fits(pattern: str, text: str) -> bool:
    return _compiled(pattern).match(text) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))

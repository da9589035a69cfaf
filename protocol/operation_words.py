"""What the fields of operations' requests mean, in a line each: the help of both command lines.

Pure. Every field that a command line takes has words here; a test compares.
"""

from typing import Final

#: Operation and field, or a field alone where it means the same everywhere.
_WORDS: Final[dict[str, str]] = {
    "after": "Go on behind a page's `next`.",
    "against": "With what: `target` (default), or the `base` it began from.",
    "context": "Lines around each change. Default: 3.",
    "limit": "At most so many on a page.",
    "path": "Only this file or folder.",
    "stat": "Only which files, and how many lines.",
    "attach_pr.number": "Its number. Without it and --url: the one of the branch.",
    "attach_pr.url": "Its address.",
    "cleanup.force": "Also where it is held, or has repositories in it that no ref can keep.",
    "cleanup.save": "Put what is uncommitted to a ref first.",
    "compare.from": "A branch, tag or commit. Default: the target branch.",
    "compare.to": "A branch, tag or commit. Default: the attempt's branch.",
    "create_pr.body": "Its description.",
    "create_pr.draft": "Open it as a draft.",
    "create_pr.target": "Where it is to go. Default: the attempt's target branch.",
    "create_pr.title": "Its title.",
    "drop_turns.all": "Take out all of them.",
    "drop_turns.turn": "Take out this one, by its id.",
    "follow_diff.cursor": "Go on behind this: nothing you have is sent again.",
    "follow_up.command": "Another command line; not for agents that are spoken to.",
    "follow_up.from_turn": "Begin a session of its own from where the newest turn, this, ended.",
    "follow_up.images": "An image to see, as a data URL; more than once for more.",
    "follow_up.profile": "Have another agent or profile of the node do it.",
    "follow_up.prompt": "What the agent is told, or a command gets as its input.",
    "follow_up.session": "Only if the attempt still goes on in this session.",
    "follow_up.steer": "Say it into the turn that runs, where the agent takes that.",
    "go_on.turn": "Only if this turn, by its id, is the one that waits.",
    "hold.until_ms": "Until this time, in milliseconds since 1970. Default: until released.",
    "interrupt.turn": "Only if this turn, by its id, is still the one that runs.",
    "log.after": "Only entries behind this number.",
    "log.execution_id": "Whose log, by its id. Default: the newest.",
    "log.grep": "Only entries that hold this text.",
    "log.wait_ms": "Wait so long for more, in milliseconds.",
    "merge.message": "The commit's message.",
    "merge.strategy": "`squash` (default): one commit; `merge`: one with two parents.",
    "push.expected_remote_head": "With --force: what the remote has now, and may lose.",
    "push.force": "Also where the remote has commits that the branch has not.",
    "read_file.bytes_max": "At most so many bytes.",
    "read_file.first_byte": "From this byte on, counted from 0.",
    "rebase.new_base": "Onto this branch. Default: the target branch.",
    "review.base_branch": "With what base: the branch to compare with.",
    "review.command": "The command line that looks at it.",
    "review.commit": "With what commit: which one.",
    "review.instructions": "What it is told, on its standard input.",
    "review.what": "`uncommitted` (default), `base` or `commit`.",
    "set_turns.items": 'All queued turns in their new order: [{"id": "...", "prompt": "..."}].',
    "stash.message": "What is in it, for who reads the list.",
    "stop.grace_s": "Seconds from asking it to stop to killing it.",
    "target_branch.branch": "The branch that the work goes to from now on.",
}


def words_for(operation: str, field: str) -> str:
    """Return what a field of an operation's request means; empty where there are no words."""
    return _WORDS.get(f"{operation}.{field}") or _WORDS.get(field, "")

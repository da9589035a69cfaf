"""Whether what the demo told is true, judged with plain git and the programs' own copies.

Must not change anything, and must not believe the hive where something else can be asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.demonstration import repository
from scripts.demonstration.screen import StepFailed
from scripts.demonstration.story import Run, Story
from scripts.demonstration.worker import REPORT


@dataclass(frozen=True)
class Check:
    """One thing that must hold; `why` says what was found where it does not."""

    text: str
    holds: bool
    why: str = ""


def same(text: str, found: object, wanted: object) -> Check:
    """A check that two things are equal."""
    return Check(text, found == wanted, f"found {found!r}, not {wanted!r}")


def check_story(story: Story, traces_before: str) -> Iterator[Check]:
    """Yield every check of a story that was told to its end."""
    for run in story.runs:
        yield from _check_log(story, run)
        if run.diff:
            yield from _check_work(story, run)
    yield from _check_plug(next(run for run in story.runs if run.agent_pids))
    yield from _check_stopped(next(run for run in story.runs if run.outcome == "stopped"))
    for node in story.nodes:
        now = repository.state_of(story.folder, node.clone)
        before = story.clones_before[node.name]
        yield same(
            f"{node.name}: the user's checkout is clean, on the same branch and commit",
            (now.head, now.branch, now.status),
            (before.head, before.branch, ""),
        )
    traces = repository.traces_in(story.folder, story.source)
    yield same(f"no branch, ref or worktree was left in {story.source}", traces, traces_before)


def _check_log(story: Story, run: Run) -> Iterator[Check]:
    name = f"{run.node.name}, {run.title!r}"
    yield same(f"{name}: ended {run.outcome}", run.ended["outcome"], run.outcome)
    copy = run.copy.read_bytes().decode("utf-8", "replace")
    printed = copy.split("\n")[:-1]
    entries = [entry for entry in story.hive.lines(run.id) if entry.get("stream") == "stdout"]
    held = [entry["text"] for entry in entries]
    numbers = [entry["n"] for entry in entries]
    yield Check(
        f"{name}: all {len(printed)} lines are at the hive, in order",
        held == printed and numbers == list(range(1, len(printed) + 1)) and bool(printed),
        _first_difference(held, printed),
    )
    followed = [entry.get("text") for entry in run.followed]
    yield Check(
        f"{name}: what was followed live is the same",
        followed == printed[: len(followed)] and bool(followed),
        _first_difference(followed, printed),
    )
    started = run.copy.with_suffix(".pids").read_text().split()
    yield same(f"{name}: its program was started once", len(started), 1)


def _check_work(story: Story, run: Run) -> Iterator[Check]:
    clone, branch, base = run.node.clone, run.ended["branch"], run.ended["base_commit"]
    name = f"{run.node.name}: git"

    def git(*args: str) -> str:
        try:
            return repository.git(story.folder, clone, *args)
        except StepFailed as failed:
            return failed.why

    head = git("rev-parse", "--verify", f"refs/heads/{branch}").strip()
    yield same(f"{name} has branch {branch} where the hive says", head, run.ended["head_commit"])
    before = story.clones_before[run.node.name].head
    yield same(
        f"{name} has one commit on it, on top of HEAD", git("rev-parse", f"{head}^"), f"{before}\n"
    )
    yield same(f"{name} agrees on where it began", base, before)
    content = git("show", f"{head}:{REPORT}")
    lines = content.count("\n")
    yield Check(
        f"{name} has {REPORT} in that commit, as it was written",
        content.startswith("# What the demo counted\n"),
        content[:200],
    )
    counted = git("diff", "--numstat", base, head).split("\n")[:-1]
    relayed = [
        f"{file['additions']}\t{file['deletions']}\t{file['path']}" for file in run.diff["files"]
    ]
    yield same(f"{name} shows the diff that came through the relay", relayed, counted)
    patch = run.diff["files"][0]["patch"] if run.diff["files"] else ""
    added = [
        line[1:] for line in (patch or "").splitlines() if line[:1] == "+" and line[:3] != "+++"
    ]
    yield Check(
        f"{name} has the {lines} lines of the relayed patch",
        added == content.split("\n")[:-1],
        _first_difference(added, content.split("\n")[:-1]),
    )


def _check_plug(run: Run) -> Iterator[Check]:
    yield Check(
        f"pulled plug: the agent is another process ({run.agent_pids[0]} -> {run.agent_pids[1]})",
        run.agent_pids[0] != run.agent_pids[1],
        "the agent was not restarted",
    )
    printed_by = int(Path(run.copy.with_suffix(".pids")).read_text().split()[0])
    yield same(
        f"pulled plug: the attempt stayed process {printed_by}",
        run.pids_seen,
        [printed_by, printed_by],
    )


def _check_stopped(run: Run) -> Iterator[Check]:
    yield Check(
        f"stopped attempt: its process {run.pids_seen[0]} is gone",
        not psutil.pid_exists(run.pids_seen[0]),
        "it still runs",
    )


def _first_difference(found: Sequence[object], wanted: Sequence[object]) -> str:
    for number, (one, other) in enumerate(zip(found, wanted, strict=False), 1):
        if one != other:
            return f"line {number}: found {one!r}, not {other!r}"
    return f"found {len(found)} lines, not {len(wanted)}"

"""Names of branches: what is refused, and what an attempt's branch is called."""

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node_agent.git.errors import InvalidRefName
from node_agent.git.refs import (
    attempt_branch,
    candidates,
    check_attempt_id,
    check_branch_name,
    check_ref_name,
    saved_ref,
    slug,
)
from tests.node_agent.git.repositories import ATTEMPT, NAMES


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-x",
        "--upload-pack=x",
        "a b",
        "a..b",
        "a//b",
        "a/",
        "a.",
        "/a",
        ".a",
        "a/.b",
        "a.lock",
        "a.lock/b",
        "a~1",
        "a^",
        "a:b",
        "a?b",
        "a*",
        "a[b",
        "a\\b",
        "a@{1}",
        "@",
        "a\n",
        "a\0",
        "+a",
        "a;b",
        "a$b",
        "a`b",
        "a'b",
        "a|b",
        "a&b",
        "a\u202eb",
        "a\u200db",
        "a\u00a0b",
        "u\u0308",
        "a\ud800",
        "a" * 182,
        "日" * 81,
    ],
)
def test_bad_names_are_refused_by_field(name: str) -> None:
    """A name git would misread is refused before git sees it, naming the input."""
    with pytest.raises(InvalidRefName) as raised:
        check_ref_name("base_branch", name)
    error = raised.value
    assert (error.code, error.field, error.value) == ("invalid", "base_branch", name)
    assert error.hint
    assert error.body().details["field"] == "base_branch"


@pytest.mark.parametrize("name", NAMES)
def test_what_people_call_branches(name: str) -> None:
    """Numbers of tickets, addresses, and words of any script."""
    assert check_branch_name("branch", name) == name


@pytest.mark.parametrize("name", ["HEAD", "refs/heads/x", "a" * 40, "0" * 64])
def test_names_with_another_meaning_make_no_branch(name: str) -> None:
    """What git would read as something else may be looked up, and not made."""
    assert check_ref_name("branch", name) == name
    with pytest.raises(InvalidRefName):
        check_branch_name("branch", name)


@given(
    st.text(st.sampled_from("aB0._/-@{~^: lock#+=,ü"), max_size=12)
    | st.text(st.characters(codec="utf-8"), max_size=12)
)
@example("a.lock")
@example("@a")
@example("a@")
@example("#1")
@example("a" * 181)
def test_git_agrees_with_what_is_let_through(name: str) -> None:
    """Every name we take is one `git check-ref-format --branch` takes."""
    try:
        check_branch_name("branch", name)
    except InvalidRefName:
        return
    subprocess.run(["git", "check-ref-format", "--branch", name], check=True, capture_output=True)


def test_attempt_branch_says_task_and_attempt() -> None:
    """`skep/`, words of the title, and the short id."""
    assert attempt_branch("Fix the Größe of a/b!", ATTEMPT) == "skep/fix-the-groe-of-a-b-deadbeef"
    assert attempt_branch("日本", ATTEMPT) == "skep/task-deadbeef"


@given(st.text(max_size=200))
def test_any_title_makes_a_branch(title: str) -> None:
    """No title can make a name that would be refused."""
    check_branch_name("branch", attempt_branch(title, ATTEMPT))
    assert len(slug(title)) <= 40


def test_long_titles_are_cut_between_words() -> None:
    """A slug keeps whole words while there are some."""
    assert slug("word " * 20) == "word-word-word-word-word-word-word-word"
    assert slug("x" * 100) == "x" * 40


@pytest.mark.parametrize("attempt_id", ["", "../x", "a/b", "-x", "a" * 65, "a.lock"])
def test_attempt_ids_that_are_paths_are_refused(attempt_id: str) -> None:
    """An id becomes a folder and a ref; nothing else may hide in it."""
    with pytest.raises(InvalidRefName):
        check_attempt_id(attempt_id)


def test_saved_ref_is_named_by_the_attempt() -> None:
    """The place of saved work, as the docs name it."""
    assert saved_ref(ATTEMPT) == f"refs/skep/saved/{ATTEMPT}"


def test_branch_is_tried_before_commit_id() -> None:
    """A branch whose name looks like a commit's id is still the branch."""
    assert candidates("beef")[0] == "refs/heads/beef"
    assert candidates("beef")[-1] == "beef"
    assert candidates("main")[-1] == "refs/tags/main"
    assert candidates("HEAD") == ["HEAD"]

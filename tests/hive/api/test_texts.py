"""Texts that are stored to be used later: what a start would fail with is refused at once."""

import pytest

from tests.hive.api.running import RunningHive


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["", "\n", "\0", "-x", "a b", "a" * 300_000, "\u202e"])
async def test_names_that_no_branch_can_have(running: RunningHive, name: str):
    """Of tasks and of projects, by the field; nothing is stored."""
    await running.node()
    task = (await running.post("tasks", {"project": "shop", "title": "Mend"})).json
    for field, path in (
        ("base_branch", f"tasks/{task['id']}"),
        ("target_branch", f"tasks/{task['id']}"),
        ("default_branch", "projects/shop"),
    ):
        before = (await running.get(path)).json
        wrong = await running.ask("PATCH", path, body={field: name})
        assert (wrong.status, wrong.error["details"]["field"]) == (422, field)
        assert len(wrong.error["message"]) < 1000
        assert (await running.get(path)).json == before
    made = await running.post("tasks", {"project": "shop", "title": "x", "base_branch": name})
    assert (made.status, made.error["details"]["field"]) == (422, "base_branch")
    made = await running.post("projects", {"name": "other", "default_branch": name})
    assert (made.status, made.error["details"]["field"]) == (422, "default_branch")


@pytest.mark.asyncio
async def test_branches_are_taken_away_by_null(running: RunningHive):
    """And given in any script."""
    await running.node()
    task = (await running.post("tasks", {"project": "shop", "title": "Mend"})).json
    for name in ("\u4e2d/\u6587", None):
        changed = await running.ask("PATCH", f"tasks/{task['id']}", body={"base_branch": name})
        assert changed.json["base_branch"] == name


@pytest.mark.asyncio
async def test_titles_in_any_script_are_one_line(running: RunningHive):
    """A joined emoji and a wide space are; an end of a line, and text turned around, are not."""
    await running.node()
    for title in ("\U0001f469\u200d\U0001f467", "a\u3000b\u00a0c"):
        made = await running.post("tasks", {"project": "shop", "title": title})
        assert (made.status, made.json["title"]) == (201, title)
    for title in ("a\nb", "a\u202eb", "\u200d"):
        made = await running.post("tasks", {"project": "shop", "title": title})
        assert (made.status, made.error["details"]["field"]) == (422, "title")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PATCH", "projects/shop", {"repo_url": "\n"}, "repo_url"),
        ("PATCH", "projects/shop", {"repo_url": "x" * 3000}, "repo_url"),
        ("PATCH", "projects/shop", {"copy_files": [".env", "\0"]}, "copy_files[1]"),
        ("PATCH", "projects/shop", {"copy_files": ["a"] * 101}, "copy_files"),
        ("POST", "tokens", {"name": "\n"}, "name"),
        ("POST", "join-tokens", {"label": "a\nb"}, "label"),
    ],
)
async def test_what_lists_show_is_one_line(
    running: RunningHive, method: str, path: str, body: dict[str, object], field: str
):
    """Names, labels and addresses."""
    await running.node()
    wrong = await running.ask(method, path, body=body)
    assert (wrong.status, wrong.error["details"]["field"]) == (422, field)

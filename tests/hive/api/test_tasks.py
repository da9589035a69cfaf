"""Tasks over HTTP."""

import pytest

from tests.hive.api.running import RunningHive


@pytest.mark.asyncio
async def test_tasks_are_made_and_listed_newest_first(running: RunningHive):
    """Pages meet; a draft is a draft; filters narrow."""
    await running.post("projects", {"name": "shop"})
    titles = [f"task {number}" for number in range(5)]
    for title in titles:
        await running.task(title, draft=title == "task 3")
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await running.get("tasks", limit=2, **cursor)).json
        found += [task["title"] for task in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == titles[::-1]
    drafts = (await running.get("tasks", status="draft", project="shop")).json["items"]
    assert [task["title"] for task in drafts] == ["task 3"]


@pytest.mark.asyncio
async def test_a_task_is_edited_put_away_and_deleted(running: RunningHive):
    """Each step as the task shows it; a step its table does not have is refused."""
    await running.post("projects", {"name": "shop"})
    task = await running.task("Sort the shelves", type="bugfix", labels=["a"])
    path = f"tasks/{task['id']}"
    edited = (
        await running.ask("PATCH", path, body={"title": "Sort them", "priority": "high"})
    ).json
    assert (edited["title"], edited["priority"], edited["type"]) == ("Sort them", "high", "bugfix")
    refused = await running.ask("PATCH", path, body={"status": "in_review"})
    assert (refused.status, refused.error["code"]) == (409, "conflict")
    await running.ask("PATCH", path, body={"archived": True})
    assert (await running.get("tasks")).json["items"] == []
    assert (await running.ask("DELETE", path)).json == {"id": task["id"]}
    assert (await running.get(path)).status == 404


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"project": "shop"}, "title"),
        ({"project": "shop", "title": " "}, "title"),
        ({"project": "shop", "title": "two\nlines"}, "title"),
        ({"project": "shop", "title": "a", "type": "poem"}, "type"),
        ({"project": "shop", "title": "a", "labels": [7]}, "labels[0]"),
        ({"project": "shop", "title": "a", "owner": "me"}, "owner"),
    ],
)
async def test_a_task_that_makes_no_sense_is_refused(running: RunningHive, body, field: str):
    """The field at fault is named."""
    await running.post("projects", {"name": "shop"})
    refused = await running.post("tasks", body)
    assert refused.status == 422
    assert refused.error["details"]["field"].replace("[...]", "[0]") == field


@pytest.mark.asyncio
async def test_a_task_of_no_project_is_refused(running: RunningHive):
    """A project that is not there is a 404."""
    refused = await running.post("tasks", {"project": "nowhere", "title": "a"})
    assert (refused.status, refused.error["code"]) == (404, "not_found")

"""Variables of tasks over HTTP: set, inherited, shown before anything runs."""

import pytest

from tests.hive.api.running import RunningHive


@pytest.mark.asyncio
async def test_variables_are_inherited_and_shown_in_a_preview(running: RunningHive):
    """From task, parent and project; what is not defined is told, and so is what looks secret."""
    shop = (await running.post("projects", {"name": "shop"})).json
    await running.ask(
        "PATCH", f"projects/{shop['id']}", body={"variables": {"TONE": "dry", "API_KEY": "x"}}
    )
    parent = await running.task("All of it", variables={"WHO": "Ada", "TONE": "warm"})
    child = await running.task(
        "Greet $WHO", description="In a $TONE tone, ${WHEN}.", parent_id=parent["id"][:18]
    )
    assert child["parent_id"] == parent["id"]
    path = f"tasks/{child['id']}"
    listed = (await running.get(f"{path}/variables")).json["items"]
    assert [(one["name"], one["value"], one["from_kind"]) for one in listed] == [
        ("API_KEY", "x", "project"),
        ("TONE", "warm", "parent"),
        ("WHO", "Ada", "parent"),
    ]
    await running.ask("PUT", f"{path}/variables/WHO", body={"value": "Grace"})
    shown = (await running.get(f"{path}/preview")).json
    assert (shown["title"], shown["description"]) == ("Greet Grace", "In a warm tone, ${WHEN}.")
    warned = [(one["code"], one["name"]) for one in shown["warnings"]]
    assert warned == [("undefined", "WHEN"), ("looks_secret", "API_KEY")]
    left = (await running.ask("DELETE", f"{path}/variables/WHO")).json["items"]
    assert [one["from_kind"] for one in left if one["name"] == "WHO"] == ["parent"]
    prompted = (await running.get(f"{path}/preview", prompt="Hello $WHO, $$5")).json
    assert prompted["prompt"] == "Hello Ada, $5"


@pytest.mark.asyncio
async def test_what_makes_no_sense_is_refused(running: RunningHive):
    """A bad name, a value of another kind, a variable that is not there, a task below itself."""
    await running.post("projects", {"name": "shop"})
    await running.post("projects", {"name": "other"})
    task = await running.task("Sort")
    path = f"tasks/{task['id']}"
    bad = await running.ask("PUT", f"{path}/variables/9", body={"value": "x"})
    assert (bad.status, bad.error["details"]["field"]) == (422, "name")
    bad = await running.ask("PUT", f"{path}/variables/A", body={"value": 7})
    assert (bad.status, bad.error["details"]["field"]) == (422, "value")
    assert (await running.ask("DELETE", f"{path}/variables/A")).status == 404
    bad = await running.ask("PATCH", path, body={"variables": {"A B": "x"}})
    assert (bad.status, bad.error["details"]["field"]) == (422, "variables.A B")
    child = await running.task("Part", parent_id=task["id"])
    for body in ({"parent_id": child["id"]}, {"parent_id": task["id"]}):
        bad = await running.ask("PATCH", path, body=body)
        assert (bad.status, bad.error["details"]["field"]) == (422, "parent_id")
    elsewhere = (await running.post("tasks", {"project": "other", "title": "x"})).json
    bad = await running.ask("PATCH", path, body={"parent_id": elsewhere["id"]})
    assert (bad.status, bad.error["details"]["field"]) == (422, "parent_id")


@pytest.mark.asyncio
async def test_a_task_that_moved_with_all_below_it(running: RunningHive):
    """However deep its children stand then, what the topmost says holds for them."""
    await running.post("projects", {"name": "shop"})

    async def line() -> list[str]:
        ids: list[str] = []
        for number in range(20):
            below = {"parent_id": ids[-1]} if ids else {}
            ids.append((await running.task(f"{number}", **below))["id"])
        return ids

    upper, lower = await line(), await line()
    await running.ask("PUT", f"tasks/{upper[0]}/variables/WHO", body={"value": "Ada"})
    moved = await running.ask("PATCH", f"tasks/{lower[0]}", body={"parent_id": upper[-1]})
    assert moved.status == 200
    shown = (await running.get(f"tasks/{lower[-1]}/preview", prompt="Hi $WHO")).json
    assert (shown["prompt"], shown["warnings"]) == ("Hi Ada", [])

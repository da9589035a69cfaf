"""Templates over HTTP: made, changed, and tasks made from them."""

import pytest

from tests.hive.api.running import RunningHive


@pytest.mark.asyncio
async def test_a_task_is_made_from_a_template(running: RunningHive):
    """Title and text are the template's where none are given; its project's own goes first."""
    shop = (await running.post("projects", {"name": "shop"})).json
    await running.post("projects", {"name": "other"})
    everywhere = (
        await running.post("templates", {"name": "fix", "text": "Fix $WHAT.", "title": "Fix $WHAT"})
    ).json
    own = (
        await running.post("templates", {"name": "fix", "text": "Mend $WHAT.", "project": "shop"})
    ).json
    assert (everywhere["project_id"], own["project_id"]) == (None, shop["id"])
    made = (await running.post("tasks", {"project": "shop", "template": "fix"})).json
    assert (made["title"], made["description"]) == ("fix", "Mend $WHAT.")
    other = (
        await running.post(
            "tasks", {"project": "other", "template": "fix", "variables": {"WHAT": "it"}}
        )
    ).json
    assert (other["title"], other["description"]) == ("Fix $WHAT", "Fix $WHAT.")
    shown = (await running.get(f"tasks/{other['id']}/preview")).json
    assert (shown["title"], shown["description"]) == ("Fix it", "Fix it.")
    named = {"project": "other", "template": own["id"]}
    assert (await running.post("tasks", named)).status == 404
    both = {"project": "shop", "template": "fix", "title": "Mine", "description": ""}
    mine = (await running.post("tasks", both)).json
    assert (mine["title"], mine["description"]) == ("Mine", "")


@pytest.mark.asyncio
async def test_templates_are_listed_changed_and_deleted(running: RunningHive):
    """Pages meet; a name is taken once; another's edit is not undone."""
    await running.post("projects", {"name": "shop"})
    for name in ("a", "b", "c"):
        await running.post("templates", {"name": name, "text": name})
    first = (await running.get("templates", limit=2)).json
    rest = (await running.get("templates", limit=2, cursor=first["next"])).json
    names = [one["name"] for one in first["items"] + rest["items"]]
    assert (names, rest["next"]) == (["a", "b", "c"], None)
    assert (await running.post("templates", {"name": "a", "text": ""})).status == 409
    assert (await running.post("templates", {"name": "two\nlines", "text": ""})).status == 422
    edit = {"text": "changed", "version": 1}
    assert (await running.ask("PATCH", "templates/a", body=edit)).json["text"] == "changed"
    assert (await running.ask("PATCH", "templates/a", body=edit)).status == 409
    assert (await running.ask("PATCH", "templates/a", body={"name": "b"})).status == 409
    await running.ask("DELETE", "templates/a")
    assert (await running.get("templates/a")).status == 404

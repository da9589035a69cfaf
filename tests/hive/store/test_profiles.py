"""The profiles of a project: one at a time, and none that could not be one."""

import pytest

from hive.store import catalog, profiles
from protocol.errors import ErrorCode
from protocol.profiles import PROFILES_MAX, Profile
from tests.hive.reported import NOW_MS
from tests.hive.store.open_hive import OpenHive
from tests.hive.store.test_catalog import edit, make, refused

CAREFUL = Profile(agent="claude", mode="plan", environment={"KEY": "secret:MODEL_KEY"})


async def set_one(hive: OpenHive, project_id: str, name: str, profile: Profile | None):
    """Set a profile as a person does."""
    return await hive.write(
        profiles.set_profile, project_id, name, profile, actor="ann", now_ms=NOW_MS
    )


@pytest.mark.asyncio
async def test_a_profile_is_set_and_taken_away(hive: OpenHive):
    """Others stay; what is no profile changes nothing; who changed it is kept."""
    shop = await make(hive)
    assert shop.profiles == {}
    assert await set_one(hive, shop.id, "careful", CAREFUL) is None
    fast = Profile(agent="codex", model="small")
    await set_one(hive, shop.id, "fast", fast)
    changed = await hive.read(catalog.get_project, shop.id)
    assert (changed.profiles, changed.version) == ({"careful": CAREFUL, "fast": fast}, 3)
    wrong = set_one(hive, shop.id, "fast", Profile(agent="nobody"))
    assert "'nobody'" in (await refused(ErrorCode.INVALID, wrong)).message
    assert await set_one(hive, shop.id, "careful", None) == CAREFUL
    assert (await hive.read(catalog.get_project, shop.id)).profiles == {"fast": fast}
    missing = await refused(ErrorCode.NOT_FOUND, set_one(hive, shop.id, "careful", None))
    assert "fast" in missing.hint


@pytest.mark.asyncio
async def test_they_are_checked_with_all_settings(hive: OpenHive):
    """More than can travel with a start is refused by name."""
    many = {f"p{number}": CAREFUL for number in range(PROFILES_MAX + 1)}
    error = await refused(ErrorCode.INVALID, make(hive, profiles=many))
    assert error.details["field"] == "profiles"
    shop = await make(hive)
    await refused(ErrorCode.INVALID, edit(hive, shop.id, profiles=many))

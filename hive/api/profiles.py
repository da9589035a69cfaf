"""`/api/v1/projects/{id}/profiles`: agents as a project wants them run, for all its nodes."""

from collections.abc import Mapping

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, now_ms
from hive.api.decoding import body_of
from hive.api.middleware import json_response, principal_of
from hive.api.projects import project_id_of
from hive.store import catalog, profiles
from protocol.profiles import Profile, StrictProfile


class SetProfile(StrictProfile, frozen=True, kw_only=True):
    """The whole profile. Values of secrets stay at the nodes: here they are named."""


async def list_(request: web.Request) -> web.Response:
    """List a project's profiles, by name."""
    project = await request.app[CONTEXT].database.read(
        catalog.get_project, await project_id_of(request)
    )
    return json_response(replies.Page(items=_shown(project.profiles)))


async def set_(request: web.Request) -> web.Response:
    """Set a profile of a project; attempts that have begun keep what they began with."""
    name = request.match_info["name"]
    asked = await body_of(request, SetProfile)
    await _set(request, name, asked)
    (shown,) = _shown({name: asked})
    return json_response(shown)


async def remove(request: web.Request) -> web.Response:
    """Take a profile of a project away; attempts that have begun keep it."""
    name = request.match_info["name"]
    before = await _set(request, name, None)
    (shown,) = _shown({name: before} if before is not None else {})
    return json_response(shown)


async def _set(request: web.Request, name: str, profile: Profile | None) -> Profile | None:
    return await request.app[CONTEXT].database.write(
        profiles.set_profile,
        await project_id_of(request),
        name,
        profile,
        actor=principal_of(request).name,
        now_ms=now_ms(),
    )


def _shown(found: Mapping[str, Profile]) -> list[replies.ProjectProfile]:
    return [
        replies.ProjectProfile(name=name, **msgspec.structs.asdict(profile))
        for name, profile in sorted(found.items())
    ]

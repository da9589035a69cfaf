"""What holds for every request: one error shape, tokens, roles, Host and Origin, safe headers."""

import asyncio
import re
from pathlib import Path

import pytest

from hive.access import ROUTES, Need, Principal
from hive.api.middleware import Doorkeeper, TokenCache, caller_address
from hive.api.routes import api_routes
from hive.config import load
from protocol.errors import SkepError
from protocol.operations import Role
from tests.hive.api.running import RunningHive, running_hive

ROLES = {role.name.lower(): role for role in Role}


def filled(path: str) -> str:
    """A path with something in each of its places, which nothing is called."""
    return re.sub(r"\{\w+\}", "ffffffff", path)


@pytest.mark.asyncio
async def test_every_route_answers_errors_in_the_one_shape(running: RunningHive):
    """Whatever is asked wrongly, of whichever route, the answer has the one shape."""
    for route in api_routes():
        if Need.NOBODY is ROUTES[route.name]:
            continue
        path = filled(route.path)
        unknown = await running.ask(route.method, path, token=None)
        assert unknown.status == 401, route.name
        assert unknown.error["code"] == "unauthenticated"
        assert unknown.headers["WWW-Authenticate"].startswith("Bearer")
        odd = await running.ask(route.method, path, body={"nonsense": 1}, nonsense="1")
        if odd.status >= 400:
            assert odd.error["code"] in {"not_found", "invalid"}, (route.name, odd.content)
        else:
            assert (route.query, route.body) == (None, None), route.name


@pytest.mark.asyncio
@pytest.mark.parametrize("token", [b"\xff", b"\xff.x", "ä.ä.ä".encode(), b"a.b.c", b"."])
async def test_a_token_that_is_no_text_is_no_token(running: RunningHive, token: bytes):
    """Whatever bytes stand in its place, the caller is nobody; the hive does not fail at it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        writer.write(
            b"GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"Authorization: Bearer " + token + b"\r\n\r\n"
        )
        async with asyncio.timeout(30):
            answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401 "), answer


@pytest.mark.asyncio
async def test_every_route_has_a_role_and_every_role_a_route(running: RunningHive):
    """The table of roles and the routes are the same set: nothing is open by being forgotten."""
    app = running.hive.application()
    served = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    assert served == set(ROUTES)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", sorted(ROLES))
async def test_each_role_gets_what_is_its_and_nothing_else(running: RunningHive, name: str):
    """For every route and role: let in exactly where the table says so."""
    token = await running.token_of(name)
    role = ROLES[name]
    for key, needed in ROUTES.items():
        method, path = key.split(" ")
        if needed is Need.NOBODY or path == "/api/v1/stream":
            continue
        answer = await running.ask(method, filled(path), token=token)
        if needed is Need.ANYONE:
            let_in = True
        elif needed is Need.TOOLS:
            let_in = role >= Role.VIEWER
        elif needed is Need.AUDIT:
            let_in = role in {Role.AUDITOR, Role.ADMIN}
        else:
            let_in = role >= needed
        assert (answer.status != 403) == let_in, (key, answer.status, answer.content)
        if not let_in:
            # By a name that `hive tokens create --role` takes.
            assert answer.error["message"].rpartition(" ")[2] in ROLES, (key, answer.content)


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/api/nothing", "/api/v1/nothing", "/api", "/api/v1/nodes/a/b/c"])
async def test_unknown_paths_are_json_404s(running: RunningHive, path: str):
    """What is not there is told in the one shape, with or without a token."""
    for token in ("", None):
        answer = await running.get(path, token=token)
        assert (answer.status, answer.error["code"]) == (404, "not_found")


@pytest.mark.asyncio
async def test_a_wrong_method_names_the_right_ones(running: RunningHive):
    """405 says what the path takes."""
    answer = await running.ask("PUT", "nodes")
    assert answer.status == 405
    assert answer.error["details"]["allowed"] == ["GET"]


@pytest.mark.asyncio
async def test_a_body_that_is_not_what_its_headers_say_is_refused(running: RunningHive):
    """It is the caller's fault, and no failure of the hive."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = await running.ask("POST", "tasks", data=b"{}", headers=headers)
    assert (answer.status, answer.error["code"]) == (400, "invalid")


@pytest.mark.asyncio
async def test_a_body_that_is_too_large_is_refused(tmp_path: Path):
    """Beyond the limit nothing is read."""
    async with running_hive(tmp_path, body_bytes_max=2048) as running:
        answer = await running.post("tasks", {"project": "x" * 4096})
        assert (answer.status, answer.error["code"]) == (413, "too_large")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b'{"name": "a", "colour": "red"}', "colour"),
        (b"{}", "name"),
        (b'{"name": 7}', "name"),
        (b'{"name": "a", "sync_policy": "some"}', "sync_policy"),
        (b'{"name": "\\u0000"}', "name"),
    ],
)
async def test_a_bad_body_names_its_field(running: RunningHive, sent: bytes, field: str):
    """422 says which field is wrong, also one that there is none of."""
    answer = await running.ask(
        "POST", "projects", data=sent, headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.error["code"]) == (422, "invalid")
    assert answer.error["details"].get("field", "") == field


@pytest.mark.asyncio
async def test_every_answer_keeps_a_browser_safe(running: RunningHive):
    """The headers stand on pages, data and errors alike."""
    for path in ("/api/docs", "/openapi.json", "/api/nothing", "/healthz"):
        headers = (await running.get(path, token=None)).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.asyncio
async def test_other_names_and_other_pages_are_refused(running: RunningHive):
    """A name rebound to this address, or a page of another site, reaches nothing."""
    rebound = await running.get("status", headers={"Host": "evil.example"})
    assert (rebound.status, rebound.error["code"]) == (403, "forbidden")
    foreign = await running.get("status", headers={"Origin": "https://evil.example"})
    assert (foreign.status, foreign.error["code"]) == (403, "forbidden")
    null = await running.get("status", headers={"Origin": "null"})
    assert null.status == 403
    own = await running.get("status", headers={"Origin": running.url})
    assert own.status == 200


class Asked:
    """A request as far as the doorkeeper looks."""

    path = "/api/v1/nodes"

    def __init__(self, remote: str = "10.0.0.9", **headers: str) -> None:
        self.remote = remote
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    ("flags", "host", "known"),
    [
        ({}, "127.0.0.1:8700", True),
        ({}, "localhost", True),
        ({}, "[::1]:8700", True),
        ({}, "10.0.0.2:8700", False),
        ({}, "", False),
        ({"public_urls": ["https://hive.example"]}, "hive.example", True),
        ({"public_urls": ["https://hive.example"]}, "HIVE.example:443", True),
        ({"public_urls": ["https://hive.example"]}, "hive.example.evil.example", False),
        # Whoever names an address did not come through a name that could be rebound.
        ({"host": "0.0.0.0", "plain_http": True}, "192.168.1.4:8700", True),
        ({"host": "0.0.0.0", "plain_http": True}, "rebound.example:8700", False),
    ],
)
def test_the_doorkeeper_knows_its_names(tmp_path: Path, flags, host: str, known: bool):
    """Names are exact; addresses count where the hive listens on all of them."""
    keeper = Doorkeeper(load(tmp_path, flags=flags, environment={}))
    try:
        keeper.check(Asked(Host=host))
    except SkepError:
        assert not known
    else:
        assert known


def test_a_node_may_come_by_any_name_but_no_page_may(tmp_path: Path):
    """A node signs the name it dialled; a page's request for the same path is refused."""
    keeper = Doorkeeper(load(tmp_path, environment={}))
    asked = Asked(Host="hive.lan:8700")
    asked.path = "/v1/link"
    keeper.check(asked)
    asked.headers["Origin"] = "https://evil.example"
    with pytest.raises(SkepError):
        keeper.check(asked)


def test_behind_a_proxy_the_last_hop_counts():
    """What the caller claims of itself is not believed; what our proxy saw is."""
    asked = Asked("127.0.0.1", X_Forwarded_For="1.2.3.4, 5.6.7.8")
    assert caller_address(asked, behind_proxy=True) == "5.6.7.8"
    assert caller_address(asked, behind_proxy=False) == "127.0.0.1"


@pytest.mark.asyncio
async def test_a_token_found_bad_is_asked_for_again_and_a_good_one_not():
    """Only what was found good is remembered, and only for a moment."""
    asked: list[str] = []

    async def look_up(token: str):
        asked.append(token)
        return None if token == "bad" else object()

    cache = TokenCache(look_up, 5.0)
    for _ in range(3):
        assert await cache.find("good") is not None
        assert await cache.find("bad") is None
    assert asked == ["good", "bad", "bad", "bad"]
    cache.forget()
    await cache.find("good")
    assert asked[-1] == "good"


@pytest.mark.asyncio
async def test_a_token_that_was_being_looked_up_when_one_was_revoked_is_not_kept():
    """What was read of the store before the revocation may be the revoked token itself."""
    ann = Principal(token_id="1", name="ann", role=Role.VIEWER)
    good, reading, revoked = [True], asyncio.Event(), asyncio.Event()

    async def look_up(_token: str) -> Principal | None:
        found = ann if good[0] else None
        reading.set()
        await revoked.wait()
        return found

    cache = TokenCache(look_up, 60.0)
    early = asyncio.create_task(cache.find("token"))
    await asyncio.wait_for(reading.wait(), 30)
    good[0] = False
    cache.forget()
    revoked.set()
    assert await asyncio.wait_for(early, 30) == ann
    assert await cache.find("token") is None

"""A stub of the models' APIs on loopback, private to one test: Anthropic's, and both of OpenAI's.

Owns its thread and its port. What it says is `model_script`'s; how each API streams it stands in
`anthropic_model`, `openai_model` and `chat_model`. Every request is kept, for tests to look at.
"""

import asyncio
import json
import threading
from typing import Any

from aiohttp import web

from tests.agents import anthropic_model, chat_model, openai_model
from tests.agents.model_script import Action, next_action

_STARTS_WITHIN_S = 30.0
_BODY_BYTES_MAX = 32 * 1024 * 1024


class ModelServer:
    """Serves them from `start` to `close`. `asked` is every request: its path and its body."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        #: The keys that requests came with.
        self.keys: set[str] = set()
        self.held = threading.Event()
        self.port = 0
        self._released = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve; returns once it does."""
        self._thread.start()
        assert self._started.wait(_STARTS_WITHIN_S)

    def release(self) -> None:
        """Let go of what is held, and hold nothing more."""
        self._released.set()

    def close(self) -> None:
        """End it, whatever is under way."""
        self.release()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STARTS_WITHIN_S)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _count(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"input_tokens": 10})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await self._kept(request)
        action = await self._action(anthropic_model.history(body))
        if not body.get("stream"):
            return web.json_response(anthropic_model.whole(body, action))
        return await _stream(request, anthropic_model.events(body, action))

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        body = await self._kept(request)
        action = await self._action(openai_model.history(body))
        return await _stream(request, openai_model.events(body, action))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._kept(request)
        action = await self._action(chat_model.history(body))
        if not body.get("stream"):
            return web.json_response(chat_model.whole(body, action))
        return await _stream_chunks(request, chat_model.chunks(body, action))

    async def _kept(self, request: web.Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        key = request.headers.get("x-api-key") or request.headers.get("Authorization", "")
        self.keys.add(key.removeprefix("Bearer "))
        self.asked.append((request.path, body))
        return body

    async def _action(self, history: list[Any]) -> Action:
        action = next_action(history)
        if action.hold:
            self.held.set()
            await asyncio.get_running_loop().run_in_executor(None, self._released.wait)
        return action


async def _stream(request: web.Request, events: list[dict[str, Any]]) -> web.StreamResponse:
    """Send events as Anthropic's and OpenAI's newer API do: the name is the type."""
    lines = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events]
    return await _stream_lines(request, lines)


async def _stream_chunks(request: web.Request, chunks: list[dict[str, Any]]) -> web.StreamResponse:
    """Send events as OpenAI's older API does: without a name, and with a word at the end."""
    lines = [f"data: {json.dumps(one)}\n\n" for one in chunks]
    return await _stream_lines(request, [*lines, "data: [DONE]\n\n"])


async def _stream_lines(request: web.Request, lines: list[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for line in lines:
        await response.write(line.encode())
    await response.write_eof()
    return response

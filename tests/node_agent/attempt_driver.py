"""A small process that runs attempts as a node agent does, for tests that kill it.

`python -m tests.node_agent.attempt_driver FOLDER INSTANCE WORDS` does one of

- `start REQUEST`: start an attempt of this request (JSON) and wait for its end,
- `turns WANTED`: start an attempt of a request, or go on with the attempt that is named, and give
  it these turns under keys of their own (JSON: request or attempt, commands),
- `recover`: take up what is there and wait for all ends,

and prints one JSON line for each thing that happened.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from node_agent import failpoints
from node_agent.attempt_runner import StartKey
from node_agent.store import attempts
from protocol.attempt_requests import StartRequest
from protocol.turn_requests import FollowUpRequest
from tests.node_agent.workshop import Workshop, open_workshop


def say(**told: Any) -> None:
    """Print one line at once: the process may be killed at any moment."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def start(shop: Workshop, request: StartRequest) -> None:
    """Start an attempt and wait for its end."""
    reply = await shop.runner.start(request, StartKey("the-key", "the-hash", "driver"))
    say(started=reply.attempt.id)
    ended = await shop.runner.wait_ended(reply.attempt.id)
    say(ended=ended.id)


async def turns(shop: Workshop, wanted: dict[str, Any]) -> None:
    """Give an attempt turns, and wait for its end."""
    attempt_id = wanted.get("attempt")
    if attempt_id is None:
        request = msgspec.convert(wanted["request"], StartRequest)
        reply = await shop.runner.start(request, StartKey("the-key", "the-hash", "driver"))
        attempt_id = reply.attempt.id
    say(started=attempt_id)
    for number, command in enumerate(wanted["commands"]):
        key = StartKey(f"turn {number}", command, "driver")
        await shop.runner.follow_up(attempt_id, FollowUpRequest(command=command), key)
    say(taken=len(wanted["commands"]))
    await shop.runner.wait_ended(attempt_id)
    say(ended=attempt_id)


async def recover(shop: Workshop) -> None:
    """Take up all attempts and wait for their ends."""
    unended = await shop.database.read(attempts.unended)
    say(recovering=[attempt.id for attempt in unended])
    await shop.recover()
    say(settled=True)
    for attempt in unended:
        await shop.runner.wait_ended(attempt.id)
    say(ended=[attempt.id for attempt in unended])


async def main(folder: Path, instance: int, todo: list[str]) -> None:
    """Open the node and do what is asked."""
    async with open_workshop(folder, instance) as shop:
        failpoints.arm(os.environ.get("SKEP_FAILPOINT"))
        if todo[0] == "start":
            await start(shop, msgspec.json.decode(todo[1], type=StartRequest))
        elif todo[0] == "turns":
            await shop.recover()
            await turns(shop, json.loads(todo[1]))
        else:
            await recover(shop)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))

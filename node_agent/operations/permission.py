"""The node's own judgement of a call of the hive: its capability, its role, the owner's refusals.

The hive has checked all this before; the node checks again, so that a hive that was broken into
can do no more than its operations, and none that the node's owner switched off.
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

import msgspec

from node_agent.acp.presets import asks_in
from node_agent.identity import HiveIdentity
from protocol import limits
from protocol.attempt_requests import ReviewRequest, RunScriptRequest, StartRequest
from protocol.errors import ErrorCode, OperationError
from protocol.messages import Call
from protocol.operation_values import Request
from protocol.operations import Operation, Role
from protocol.tokens import Capability, check_capability
from protocol.turn_requests import FollowUpRequest, SetTurnsRequest

#: The executor that runs command lines, which follow-ups and reviews are as well.
COMMAND: Final = "command"
#: Capabilities live a minute (streams a quarter of an hour), and a link has at most 256 calls open.
_REMEMBERED_MAX: Final = 20_000


class UsedCapabilities:
    """The `jti`s of capabilities that may still be unexpired; each is good for one call."""

    def __init__(self) -> None:
        self._expires_s: OrderedDict[str, float] = OrderedDict()

    def use(self, jti: str, *, expires_s: float, now_s: float) -> None:
        """Take a capability out of use; raises OperationError at its second use."""
        self._forget(now_s)
        if jti in self._expires_s:
            raise OperationError(
                ErrorCode.FORBIDDEN,
                "this capability was used before",
                hint="Send the call again; the hive makes a new one, and the key keeps it one.",
            )
        if len(self._expires_s) >= _REMEMBERED_MAX:
            # Forgetting one that still counts would let it be replayed.
            raise OperationError(
                ErrorCode.SLOW_DOWN,
                "too many calls within a minute",
                hint="Ask again in a minute.",
            )
        self._expires_s[jti] = expires_s + limits.TOKEN_LEEWAY_S

    def _forget(self, now_s: float) -> None:
        # Nearly in order of expiry: a longer one delays the forgetting of those behind it only.
        while self._expires_s:
            jti, expires_s = next(iter(self._expires_s.items()))
            if expires_s >= now_s:
                return
            del self._expires_s[jti]


def check_call(
    call: Call,
    operation: Operation,
    *,
    node_id: str,
    hive: HiveIdentity,
    now_s: float,
    used: UsedCapabilities,
) -> Capability:
    """Return the call's capability if it allows just this call now, and take it out of use."""
    capability = check_capability(
        call.capability,
        keys=hive.keys,
        hive_id=hive.hive_id,
        generation=hive.generation,
        node_id=node_id,
        operation=call.operation,
        attempt_id=call.attempt_id,
        body=call.body,
        now_s=now_s,
    )
    if _role(capability.role) < operation.role:
        raise OperationError(
            ErrorCode.FORBIDDEN,
            f"{operation.name} needs the role {operation.role.name.lower()}",
            hint=f"The capability is for {capability.role}.",
        )
    used.use(capability.jti, expires_s=capability.expires_at_s, now_s=now_s)
    return capability


def check_refusals(
    operation: Operation,
    request: Request,
    refused: Collection[str],
    began: StartRequest | None = None,
) -> None:
    """Raise OperationError where the node's owner refuses this from the hive.

    `began`: what the attempt that goes on was started with, by the profile it has by now.
    """
    start = _start_of(request, began)
    names = _names_of(operation, request, start)
    refusal = next((one for one in names if one in refused), None)
    if refusal is None:
        return
    because = ""
    if start is not None and refusal == f"executor:{COMMAND}":
        brought = ", ".join(_words_of(start)) or "executor"
        because = f"What could have a command line run: {brought}. "
    raise OperationError(
        ErrorCode.FORBIDDEN,
        f"the owner of this node does not allow {refusal} from the hive",
        hint=f"{because}Its owner may allow it: setting `refuse` of the node agent.",
        refused=refusal,
    )


def _start_of(request: Request, began: StartRequest | None) -> StartRequest | None:
    """Return the start that this is, or that would have the same run."""
    match request:
        case StartRequest():
            return request
        case FollowUpRequest() if began is not None:
            return msgspec.structs.replace(
                began,
                command=request.command or began.command,
                profile=request.profile or began.profile,
            )
        case SetTurnsRequest() if began is not None:
            commands = (item.command for item in request.items)
            return msgspec.structs.replace(
                began, command=next(filter(None, commands), began.command)
            )
        case _:
            return None


def _names_of(operation: Operation, request: Request, start: StartRequest | None) -> list[str]:
    """Return the names by which an owner may have refused this.

    Whoever does not want attempts from the hive does not want its words run in another way either.
    """
    command = f"executor:{COMMAND}"
    executors = [command]
    if start is not None:
        executors = [f"executor:{start.executor}", *([command] if _words_of(start) else [])]
    match request:
        case StartRequest():
            return [operation.name, *executors]
        case FollowUpRequest():
            return [operation.name, "start", *executors]
        # A script's words came with a start, perhaps before its owner refused such.
        case ReviewRequest() | RunScriptRequest():
            return [operation.name, "start", command]
        case SetTurnsRequest() if any(item.command or item.prompt for item in request.items):
            return [operation.name, "follow_up", "start", *executors]
        case _:
            return [operation.name]


def _words_of(request: StartRequest) -> list[str]:
    """Return what of a start can have a command line run: itself, or by an agent that need not ask.

    Each by the name of its field.
    """
    profile = request.profiles.get(request.profile or "")
    agent = request.profile if profile is None else profile.agent
    mode = request.mode or (None if profile is None else profile.mode)
    brought = {
        "command": request.command is not None,
        "environment": bool(request.environment),
        "profile": profile is not None and profile.brings_words,
        "mode": mode is not None and not asks_in(agent, mode),
        "setup_script": bool(request.setup_script),
        "cleanup_script": bool(request.cleanup_script),
        "dev_script": bool(request.dev_script),
        # An agent says itself of which kind a tool is.
        "request_rules.allow": bool(request.request_rules.allow),
    }
    return [name for name, brings in brought.items() if brings]


def _role(name: str) -> Role:
    try:
        return Role[name.upper()]
    except KeyError as error:
        raise OperationError(ErrorCode.FORBIDDEN, f"no role is called {name!r}") from error

"""The conversation with one agent process over the Agent Client Protocol, as a state machine.

In go the agent's lines and people's wishes, out come facts and lines for the agent. No I/O, no
clock, no randomness: the same state and the same input give the same step, whoever asks.
Whatever the agent says, no input raises; only a caller who asks for what cannot be is told so.
"""

from collections.abc import Callable
from typing import Any, Final

from node_agent.acp.elicitations import ask_elicitation, completed
from node_agent.acp.opening import (
    PING_METHOD,
    PROTOCOL_VERSION,
    STEER_METHOD,
    can_have,
    chosen_setting,
    initialize_params,
    prompt_blocks,
    read_abilities,
    session_params,
)
from node_agent.acp.requests import (
    Asked,
    answer_for,
    ask_permission,
    cancelled_answer,
)
from node_agent.acp.reset_times import told_in
from node_agent.acp.state import (
    REQUESTS_MAX,
    UNREADABLE_LINES_MAX,
    Failure,
    MachineState,
    OpenTurn,
    Phase,
    Sent,
    SentKind,
)
from node_agent.acp.steps import (
    AgentFailed,
    Fact,
    Opening,
    Prompt,
    Reply,
    RequestWithdrawn,
    SessionBegun,
    Steered,
    Step,
    TurnOver,
)
from node_agent.acp.updates import apply_update, close_block, end_calls, told, turn_usage
from node_agent.acp.usage_limits import usage_limit_in
from node_agent.acp.wire import (
    AUTH_REQUIRED,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    REQUEST_CANCELLED,
    Call,
    Notice,
    Response,
    RpcError,
    error_line,
    mapping_in,
    notification_line,
    read_line,
    request_line,
    result_line,
    same_id,
    text_in,
    words_of,
)

#: Agents' ids of sessions are of some dozen characters; it goes with each state of the session.
_SESSION_ID_CHARACTERS_MAX: Final = 1024
_NAME_CHARACTERS_MAX: Final = 200
_AT_WORK: Final = frozenset({"pending", "in_progress"})
_SETTING_UP: Final = frozenset({SentKind.SETTING, SentKind.PING})
_OPENING_METHODS: Final = {
    SentKind.NEW: "session/new",
    SentKind.RESUME: "session/resume",
    SentKind.LOAD: "session/load",
    SentKind.FORK: "session/fork",
}
_ABILITY_FOR: Final = {
    SentKind.FORK: "fork",
    SentKind.RESUME: "resume",
    SentKind.LOAD: "load",
}


class TurnRunning(RuntimeError):  # noqa: N818  named as what is so
    """A turn was asked for while another one runs or waits for the session."""

    def __init__(self, turn_id: str) -> None:
        super().__init__(f"turn {turn_id} is not over")
        self.turn_id = turn_id


class AgentMachine:
    """One agent process. `state` is all it knows; the next input changes it."""

    def __init__(self, state: MachineState | None = None) -> None:
        self.state = MachineState() if state is None else state
        self._facts: list[Fact] = []
        self._lines: list[bytes] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing the agent says counts any more."""
        return self.state.phase is Phase.OVER

    @property
    def is_setting(self) -> bool:
        """Whether its session is open, and it is waited for only to say that it is set up."""
        return self.state.phase is Phase.SETTING

    # What people want.

    def begin(self, opening: Opening) -> Step:
        """Greet the agent; its session follows as it answers. A second time: nothing."""
        if self.state.phase is Phase.NEW:
            self.state.opening = opening
            self.state.phase = Phase.INITIALIZING
            self._ask(SentKind.INITIALIZE, "initialize", initialize_params(opening))
        return self._step()

    def prompt(self, prompt: Prompt) -> Step:
        """Begin a turn, as soon as the session is there. The same turn again: nothing.

        Raises TurnRunning where another turn is not over.
        """
        state = self.state
        for present in (state.turn, state.kept):
            named = None if present is None else _turn_id(present)
            if named == prompt.turn_id:
                return self._step()
            if named is not None:
                raise TurnRunning(named)
        if state.failure is not None:
            failure = state.failure
            self._turn_failed(prompt.turn_id, failure.code, failure.message)
            return self._step()
        state.kept = prompt
        self._send_kept()
        return self._step()

    def reply(self, request_key: str, reply: Reply) -> Step:
        """Answer a request, once: an unknown or a settled one gets nothing. Raises UnfitReply."""
        request = self.state.requests.get(request_key)
        if request is not None:
            answer = answer_for(request, reply)
            del self.state.requests[request_key]
            self._lines.append(result_line(request.rpc_id, answer))
        return self._step()

    def interrupt(self) -> Step:
        """Ask the agent to end its turn; what it waits for is withdrawn. No turn: nothing."""
        state = self.state
        if state.kept is not None:
            kept, state.kept = state.kept, None
            self._facts.append(TurnOver(turn_id=kept.turn_id, stop_reason="cancelled"))
        elif state.turn is not None and not state.turn.interrupted:
            state.turn.interrupted = True
            params = {"sessionId": state.agent_session_id}
            self._lines.append(notification_line("session/cancel", params))
            self._withdraw_all("the turn was interrupted")
        return self._step()

    def steer(self, text: str, key: str = "") -> Step:
        """Say something into the turn that runs; a `Steered` of this key tells what came of it."""
        state = self.state
        refusal = None
        if "steer" not in state.abilities.names:
            refusal = "this agent takes nothing in while it works"
        elif state.turn is None or state.turn.interrupted:
            refusal = "no turn runs"
        if refusal is not None:
            self._facts.append(Steered(key=key, taken=False, message=refusal))
            return self._step()
        params = {
            "sessionId": state.agent_session_id,
            "prompt": [{"type": "text", "text": text}],
            # Else a turn of the agent's own making would begin where ours has just ended.
            "_meta": {"steering": {"idleBehavior": "promptRequired"}},
        }
        self._ask(SentKind.STEER, STEER_METHOD, params, about=key)
        return self._step()

    def tell(self, text: str) -> Step:
        """Say something of the node's own, where the conversation is now."""
        self._facts += told(self.state, text)
        return self._step()

    def settle(self) -> Step:
        """Wait no longer for its word that the session is set up. Where it is: nothing."""
        state = self.state
        if self.is_setting:
            unsaid = [sent.about for sent in state.sent.values() if sent.kind is SentKind.SETTING]
            for about in unsaid:
                self._facts += told(state, f"The agent did not say whether it took the {about}.")
            state.sent = {
                rpc_id: sent for rpc_id, sent in state.sent.items() if sent.kind not in _SETTING_UP
            }
            self._go_on_when_set()
        return self._step()

    def rest(self) -> Step:
        """End what the agent still says of a turn that is over. While one runs: nothing."""
        if self.state.turn is None:
            self._facts += close_block(self.state)
        return self._step()

    def give_up(self, why: str) -> Step:
        """Have nothing more to do with this process. A second time: nothing."""
        if self.state.phase is not Phase.OVER:
            self._fail("agent", why)
        return self._step()

    def finish(self, reason: str = "the agent's process ended") -> Step:
        """Take note that nothing more will come of this process. A second time: nothing."""
        if self.state.phase is not Phase.OVER:
            names = [
                one.call.name for one in self.state.calls.values() if one.call.status in _AT_WORK
            ]
            tool = f", while it used a tool: {names[-1][:_NAME_CHARACTERS_MAX]}" if names else ""
            self._end("agent", f"{reason}{tool}")
        return self._step()

    # What the agent says.

    def receive(self, line: bytes) -> Step:
        """Take in one line of the agent's output, without its newline."""
        state = self.state
        if state.phase is Phase.OVER or not line.strip():
            return self._step()
        incoming = read_line(line)
        if incoming is None:
            # Once it has spoken the protocol, what a tool of it prints beside that ends nothing.
            greeting = state.phase in {Phase.NEW, Phase.INITIALIZING}
            state.unreadable_lines += greeting
            if state.unreadable_lines >= UNREADABLE_LINES_MAX:
                self._fail("protocol", "what it prints is not the Agent Client Protocol")
            return self._step()
        state.unreadable_lines = 0
        match incoming:
            case Notice():
                self._notice(incoming)
            case Call():
                self._call(incoming)
            case Response():
                self._response(incoming)
        return self._step()

    def _notice(self, notice: Notice) -> None:
        state = self.state
        if notice.method == "session/update":
            # Until the session is open this is history replayed: ours is our own.
            if state.phase is not Phase.READY and (
                state.replaying or state.phase is not Phase.SETTING
            ):
                return
            # Compared by value: what stands there may be anything, also what no set could hold.
            if notice.params.get("sessionId") not in (None, state.agent_session_id):
                return
            update = mapping_in(notice.params, "update")
            self._facts += apply_update(state, update)
        elif notice.method == "elicitation/complete":
            self._facts += completed(state, notice.params)
        elif notice.method == "$/cancel_request":
            self._cancel_request(notice)

    def _cancel_request(self, notice: Notice) -> None:
        wanted = notice.params.get("requestId")
        for key, request in list(self.state.requests.items()):
            if same_id(request.rpc_id, wanted):
                del self.state.requests[key]
                self._lines.append(error_line(request.rpc_id, REQUEST_CANCELLED, "cancelled"))
                reason = "the agent withdrew it"
                self._facts.append(RequestWithdrawn(key=key, reason=reason))

    def _call(self, call: Call) -> None:
        state = self.state
        asks: dict[str, Callable[..., Asked]] = {
            "session/request_permission": ask_permission,
            "elicitation/create": ask_elicitation,
        }
        ask = asks.get(call.method)
        if ask is None:
            message = f"Method not found: {call.method[:200]}"
            self._lines.append(error_line(call.rpc_id, METHOD_NOT_FOUND, message))
            return
        if any(request.rpc_id == call.rpc_id for request in state.requests.values()):
            return
        if state.turn is not None and state.turn.interrupted:
            permission = call.method == "session/request_permission"
            outcome: dict[str, Any] = {"outcome": {"outcome": "cancelled"}}
            answer = outcome if permission else {"action": "cancel"}
            self._lines.append(result_line(call.rpc_id, answer))
            return
        if len(state.requests) >= REQUESTS_MAX:
            self._lines.append(error_line(call.rpc_id, INVALID_PARAMS, "too many open requests"))
            return
        asked = ask(state, call.rpc_id, call.params)
        self._facts += asked.facts
        if asked.refusal is not None:
            self._facts += told(state, f"The agent asked, and was refused: {asked.refusal}.")
            self._lines.append(error_line(call.rpc_id, INVALID_PARAMS, asked.refusal))

    def _response(self, response: Response) -> None:
        sent = None
        if response.rpc_id is not None:
            sent = self.state.sent.pop(response.rpc_id, None)
        match sent:
            case None:
                return
            case Sent(kind=SentKind.INITIALIZE):
                self._initialized(response)
            case Sent(kind=SentKind.AUTHENTICATE):
                self._authenticated(response)
            case Sent(kind=SentKind.SETTING):
                self._set(response, sent.about)
            case Sent(kind=SentKind.PING):
                self._go_on_when_set()
            case Sent(kind=SentKind.PROMPT):
                self._prompted(response)
            case Sent(kind=SentKind.STEER):
                self._steered(response, sent.about)
            case _:
                self._opened(response, sent.kind)

    # The session's beginning.

    def _initialized(self, response: Response) -> None:
        if response.error is not None:
            code = "protocol" if response.error.code == METHOD_NOT_FOUND else "agent"
            self._refused(response.error, code)
            return
        version = response.result.get("protocolVersion")
        if version != PROTOCOL_VERSION:
            said = f"version {version}" if isinstance(version, int) else "no version"
            self._fail(
                "protocol",
                f"it speaks {said} of the Agent Client Protocol, not {PROTOCOL_VERSION}",
                hint="Install a version of the agent that speaks version 1.",
            )
            return
        ready, self.state.abilities = read_abilities(response.result)
        self._facts.append(ready)
        self._open()

    def _open(self) -> None:
        """Open the session by the best way that is left: what was named first, a new one last."""
        state = self.state
        opening = state.opening or Opening(cwd="/")
        ways = [SentKind.NEW]
        if opening.agent_session_id is not None:
            named = [SentKind.FORK] if opening.fork else [SentKind.RESUME, SentKind.LOAD]
            ways = [
                way
                for way in named
                if _ABILITY_FOR[way] in state.abilities.names and way not in state.tried
            ] + ways
        if opening.must_resume and ways[0] is SentKind.NEW:
            self._fail(
                "session_lost",
                "the agent no longer has the session in which its work was cut off",
                hint="Send a follow-up that says what is to be done.",
            )
            return
        way = ways[0]
        named_id = None if way is SentKind.NEW else opening.agent_session_id
        state.phase = Phase.OPENING
        params = session_params(opening, state.abilities, named_id)
        self._ask(way, _OPENING_METHODS[way], params)

    def _opened(self, response: Response, way: SentKind) -> None:
        state = self.state
        opening = state.opening or Opening(cwd="/")
        if response.error is not None:
            if response.error.code == AUTH_REQUIRED and self._authenticate(opening):
                return
            if response.error.code == AUTH_REQUIRED or way is SentKind.NEW:
                self._refused(response.error, "agent")
                return
            state.tried.append(way)
            self._open()
            return
        same = way in {SentKind.RESUME, SentKind.LOAD}
        session_id = opening.agent_session_id if same else text_in(response.result, "sessionId")
        if not session_id or len(session_id) > _SESSION_ID_CHARACTERS_MAX:
            self._fail("protocol", "it opened a session without an id that could be kept")
            return
        state.agent_session_id = session_id
        state.replaying = way is SentKind.LOAD
        resumed = way is not SentKind.NEW
        self._facts.append(SessionBegun(agent_session_id=session_id, resumed=resumed))
        left_out = [one.name for one in opening.mcp_servers if not can_have(one, state.abilities)]
        if left_out:
            text = (
                f"This agent reaches MCP servers by programs only; left out: {', '.join(left_out)}."
            )
            self._facts += told(state, text)
        state.phase = Phase.SETTING
        for what, wish in (("mode", opening.mode), ("model", opening.model)):
            if wish:
                self._wish(response.result, what, wish)
        if state.replaying and not self._waits_for_settings():
            # Some agents go on replaying behind their answer. By the time they answer something
            # else they have done so; what they do not know they answer too, with an error.
            self._ask(SentKind.PING, PING_METHOD, {"sessionId": session_id})
        self._go_on_when_set()

    def _authenticate(self, opening: Opening) -> bool:
        """Log in by the method that was named for this agent, once; else return False."""
        state = self.state
        method = opening.auth_method
        if method is None or SentKind.AUTHENTICATE in state.tried:
            return False
        state.tried.append(SentKind.AUTHENTICATE)
        state.phase = Phase.AUTHENTICATING
        self._ask(SentKind.AUTHENTICATE, "authenticate", {"methodId": method})
        return True

    def _authenticated(self, response: Response) -> None:
        if response.error is not None:
            self._refused(response.error, "auth_required")
            return
        self._open()

    def _wish(self, result: dict[str, Any], what: str, wish: str) -> None:
        setting = chosen_setting(result, what, wish)
        if setting.method is None:
            offered = f" It has: {', '.join(setting.offered)}." if setting.offered else ""
            text = f"The agent offers no {what} {wish!r}; it goes on with its own.{offered}"
            self._facts += told(self.state, text)
            return
        params = {"sessionId": self.state.agent_session_id, **setting.params}
        self._ask(SentKind.SETTING, setting.method, params, about=f"{what} {wish}")

    def _set(self, response: Response, about: str) -> None:
        if response.error is not None:
            text = f"The agent did not take the {about}: {words_of(response.error)}"
            self._facts += told(self.state, text)
        self._go_on_when_set()

    def _go_on_when_set(self) -> None:
        state = self.state
        if state.phase is Phase.SETTING and not self._waits_for_settings():
            state.phase = Phase.READY
            self._send_kept()

    def _waits_for_settings(self) -> bool:
        return any(sent.kind in _SETTING_UP for sent in self.state.sent.values())

    # Turns.

    def _send_kept(self) -> None:
        state = self.state
        if state.kept is None or state.phase is not Phase.READY:
            return
        prompt, state.kept = state.kept, None
        self._facts += close_block(state)
        if prompt.images and "images" not in state.abilities.names:
            text = f"This agent takes no images: it was not given the {len(prompt.images)} here."
            self._facts += told(state, text)
        state.replaying = False
        state.begin_turn(prompt.turn_id)
        blocks = prompt_blocks(prompt, state.abilities)
        params = {"sessionId": state.agent_session_id, "prompt": blocks}
        self._ask(SentKind.PROMPT, "session/prompt", params, about=prompt.turn_id)

    def _prompted(self, response: Response) -> None:
        state = self.state
        turn = state.turn
        if turn is None:
            return
        error = response.error
        stop_reason = text_in(response.result, "stopReason")[:64]
        if error is not None:
            limit = usage_limit_in(error)
            if limit is not None:
                reset = limit.reset_at_ms or state.limit_reset_at_ms
                zone = None if state.opening is None else state.opening.zone
                self._end_turn(
                    TurnOver(
                        turn_id=turn.id,
                        stop_reason="error",
                        error_code="usage_limit",
                        message=words_of(error),
                        reset_at_ms=reset,
                        reset_after_ms=limit.reset_after_ms,
                        reset_by_clock=told_in(limit.reset_by_clock, zone),
                    )
                )
            elif error.code == AUTH_REQUIRED:
                self._turn_failed(turn.id, "auth_required", self._auth_words(error))
            elif turn.interrupted:
                self._end_turn(TurnOver(turn_id=turn.id, stop_reason="cancelled"))
            else:
                self._turn_failed(turn.id, "agent", words_of(error))
        elif not stop_reason:
            self._turn_failed(turn.id, "protocol", "the agent did not say why its turn ended")
        else:
            usage = turn_usage(response.result)
            over = TurnOver(turn_id=turn.id, stop_reason=stop_reason, usage=usage)
            self._end_turn(over)

    def _turn_failed(self, turn_id: str, code: str, message: str) -> None:
        over = TurnOver(turn_id=turn_id, stop_reason="error", error_code=code, message=message)
        self._end_turn(over)

    def _end_turn(self, over: TurnOver) -> None:
        state = self.state
        self._facts += close_block(state)
        if over.stop_reason in {"cancelled", "error"}:
            self._facts += end_calls(state)
        self._withdraw_all("the turn is over")
        state.turn = None
        state.limit_reset_at_ms = None
        self._facts.append(over)

    def _withdraw_all(self, reason: str) -> None:
        for key, request in self.state.requests.items():
            self._lines.append(result_line(request.rpc_id, cancelled_answer(request)))
            self._facts.append(RequestWithdrawn(key=key, reason=reason))
        self.state.requests = {}

    def _steered(self, response: Response, key: str) -> None:
        outcome = text_in(response.result, "outcome")
        if response.error is not None:
            message = words_of(response.error)
        else:
            message = "" if outcome == "injected" else "the turn was over before"
        taken = response.error is None and outcome == "injected"
        if taken:
            # What was being said stands before what was said into it.
            self._facts += close_block(self.state)
        self._facts.append(Steered(key=key, taken=taken, message=message))

    # The end.

    def _refused(self, error: RpcError, code: str) -> None:
        if error.code == AUTH_REQUIRED or code == "auth_required":
            hint = self.state.abilities.login_hint
            self._fail("auth_required", words_of(error), hint=hint)
        else:
            self._fail(code, words_of(error))

    def _auth_words(self, error: RpcError) -> str:
        hint = self.state.abilities.login_hint
        return f"{words_of(error)} ({hint})" if hint else words_of(error)

    def _fail(self, code: str, message: str, hint: str = "") -> None:
        self._end(code, message)
        self._facts.append(AgentFailed(code=code, message=message, hint=hint))

    def _end(self, code: str, message: str) -> None:
        state = self.state
        state.failure = Failure(code, message)
        for sent in state.sent.values():
            if sent.kind is SentKind.STEER:
                self._facts.append(Steered(key=sent.about, taken=None, message=message))
        state.sent = {}
        if state.turn is not None:
            if state.turn.interrupted:
                self._end_turn(TurnOver(turn_id=state.turn.id, stop_reason="cancelled"))
            else:
                self._turn_failed(state.turn.id, code, message)
        elif state.kept is not None:
            kept, state.kept = state.kept, None
            self._turn_failed(kept.turn_id, code, message)
        else:
            self._facts += close_block(state) + end_calls(state)
            self._withdraw_all(message)
        state.phase = Phase.OVER
        state.calls = {}

    def _ask(self, kind: SentKind, method: str, params: dict[str, Any], *, about: str = "") -> None:
        state = self.state
        rpc_id = state.next_rpc_id
        state.next_rpc_id += 1
        state.sent[rpc_id] = Sent(kind, about)
        self._lines.append(request_line(rpc_id, method, params))

    def _step(self) -> Step:
        facts, self._facts = self._facts, []
        lines, self._lines = self._lines, []
        return Step(facts=facts, lines=lines)


def _turn_id(present: OpenTurn | Prompt) -> str:
    return present.id if isinstance(present, OpenTurn) else present.turn_id

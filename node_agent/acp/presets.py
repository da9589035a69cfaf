"""The agents that are known by name: how each is started, installed and logged in to. Pure values.

Whatever speaks the Agent Client Protocol runs without a preset too, by its command line: `custom`.
"""

import shlex
from collections.abc import Mapping
from typing import Final

import msgspec

from protocol.errors import ErrorCode, OperationError
from protocol.profiles import CUSTOM

_ENDS_AT_ONCE: Final = frozenset({"--version", "-v", "--help", "-h"})
#: By these an agent of the command line would serve one prompt, or an older session.
_ONE_SHOT: Final = _ENDS_AT_ONCE | {
    *("--acp", "--no-acp", "--experimental-acp", "--prompt", "-p", "--prompt-interactive", "-i"),
    *("--resume", "-r", "--continue", "-c", "--session-id", "--output-format", "-o"),
    *("--list-extensions", "-l"),
}
#: It may look around, and report to people; all else is asked.
_OPENCODE_ASKS: Final = msgspec.json.encode(
    {
        "*": "ask",
        "read": {"*": "allow", "*.env": "ask", "*.env.*": "ask", "*.env.example": "allow"},
        **dict.fromkeys(("glob", "grep", "list", "todowrite"), "allow"),
        **dict.fromkeys(("skep_ask_human", "skep_report_progress", "skep_get_task"), "allow"),
    }
).decode()


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One agent. `words` follow the program; `package` is what npm calls it.

    `login_variables` and `login_files` (from the home folder) hold a login; where it may be kept
    elsewhere too, such as in a keychain, `login_elsewhere` says that their absence proves nothing.
    `sets` is what its process is given beside its environment, where that says nothing else.
    """

    name: str
    title: str
    program: str
    words: tuple[str, ...] = ()
    package: str
    #: Words that make the program print its version and end; none: only its package tells.
    version_words: tuple[str, ...] = ()
    login_hint: str
    login_variables: tuple[str, ...] = ()
    login_files: tuple[str, ...] = ()
    login_elsewhere: bool = False
    needs_login: bool = True
    sets: Mapping[str, str] = {}
    #: The mode it begins in where nobody wishes another: one in which it asks before it acts.
    mode: str | None = None
    #: The modes in which it asks people, or only reads. In all others it may run what it likes.
    asking_modes: frozenset[str] = frozenset()
    #: The agent's own way to log in from its environment, for `Opening.auth_method`.
    auth_method: str | None = None
    #: Words by which it would speak, work or go on otherwise than here: no profile may say them.
    reserved: frozenset[str] = frozenset()
    #: What comes before a configuration of MCP servers on its command line, where it takes none
    #: that is a program by the protocol.
    tools_word: str | None = None
    #: How it takes a session up again, best first; what it says itself is what counts.
    resumes_by: tuple[str, ...] = ("resume", "load")

    def install_hint(self, prefix: str | None = None) -> str:
        """Return the command that installs it: for this node alone, or for the user."""
        where = "--global" if prefix is None else f"--prefix {shlex.quote(prefix)}"
        return f"npm install {where} {self.package}"

    def argv(self, program: str | None = None) -> list[str]:
        """Return what to run: the program as it was found, or by its name."""
        return [program or self.program, *self.words]


PRESETS: Final[Mapping[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(
            name="claude",
            title="Claude Code",
            program="claude-agent-acp",
            package="@agentclientprotocol/claude-agent-acp",
            login_hint="Run `claude` and log in with /login, or set ANTHROPIC_API_KEY.",
            login_variables=(
                "ANTHROPIC_API_KEY",
                "ANTHROPIC_AUTH_TOKEN",
                "CLAUDE_CODE_OAUTH_TOKEN",
                "CLAUDE_CODE_USE_BEDROCK",
                "CLAUDE_CODE_USE_VERTEX",
            ),
            login_files=(".claude/.credentials.json",),
            login_elsewhere=True,
            sets={"DISABLE_AUTOUPDATER": "1"},
            # Left alone it begins in a mode where a model of its own says what is allowed.
            mode="default",
            asking_modes=frozenset({"default", "plan"}),
            reserved=frozenset({"--cli", *_ENDS_AT_ONCE}),
        ),
        Preset(
            name="codex",
            title="Codex",
            program="codex-acp",
            package="@agentclientprotocol/codex-acp",
            version_words=("--version",),
            login_hint="Run `codex login`, or set CODEX_API_KEY or OPENAI_API_KEY.",
            login_variables=("CODEX_API_KEY", "OPENAI_API_KEY"),
            login_files=(".codex/auth.json",),
            # A browser would open on the node, for nobody.
            sets={"NO_BROWSER": "1"},
            auth_method="api-key",
            # As above: what goes beyond the worktree is asked of people, not of a model.
            mode="workspace-write",
            asking_modes=frozenset({"read-only", "workspace-write"}),
            reserved=frozenset({"login", "cli", *_ENDS_AT_ONCE}),
        ),
        Preset(
            name="opencode",
            title="OpenCode",
            program="opencode",
            words=("acp",),
            package="opencode-ai",
            version_words=("--version",),
            login_hint="Run `opencode auth login`; models that need none work without.",
            login_files=(".local/share/opencode/auth.json",),
            needs_login=False,
            # Left alone it asks for next to nothing.
            sets={"OPENCODE_PERMISSION": _OPENCODE_ASKS, "OPENCODE_DISABLE_AUTOUPDATE": "1"},
            asking_modes=frozenset({"build", "plan"}),
            reserved=frozenset({"--cwd", "--port", "--hostname", "--mdns", "--cors"})
            | _ENDS_AT_ONCE,
        ),
        Preset(
            name="gemini",
            title="Gemini CLI",
            program="gemini",
            words=("--acp",),
            package="@google/gemini-cli",
            version_words=("--version",),
            login_hint="Run `gemini` and log in, or set GEMINI_API_KEY.",
            login_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            login_files=(".gemini/oauth_creds.json",),
            resumes_by=("load",),
            mode="default",
            asking_modes=frozenset({"default", "plan"}),
            reserved=_ONE_SHOT
            | {"--worktree", "-w", "--session-file", "--list-sessions", "--delete-session"},
        ),
        Preset(
            name="copilot",
            title="GitHub Copilot CLI",
            program="copilot",
            words=("--acp",),
            package="@github/copilot",
            version_words=("--version",),
            login_hint="Run `copilot` and log in with /login, or set COPILOT_GITHUB_TOKEN;"
            " COPILOT_PROVIDER_BASE_URL is a model of your own.",
            login_variables=(
                "COPILOT_GITHUB_TOKEN",
                "GH_TOKEN",
                "GITHUB_TOKEN",
                "COPILOT_PROVIDER_BASE_URL",
            ),
            login_elsewhere=True,
            resumes_by=("load",),
            mode="agent",
            asking_modes=frozenset({"agent", "plan"}),
            reserved=_ONE_SHOT | {"--interactive", "--connect", "--name", "-n", "-C"},
            tools_word="--additional-mcp-config",
        ),
        Preset(
            name="qwen",
            title="Qwen Code",
            program="qwen",
            words=("--acp",),
            package="@qwen-code/qwen-code",
            version_words=("--version",),
            login_hint="Run `qwen` and log in, or set OPENAI_API_KEY and OPENAI_BASE_URL.",
            login_variables=("OPENAI_API_KEY", "DASHSCOPE_API_KEY"),
            login_files=(".qwen/oauth_creds.json",),
            mode="default",
            asking_modes=frozenset({"default", "plan"}),
            reserved=_ONE_SHOT
            | {"--input-format", "--json-fd", "--json-file", "--json-schema", "--input-file"},
        ),
    )
}


class AgentUnknown(OperationError):  # noqa: N818  named as what is so
    """No agent goes by this name."""

    def __init__(self, name: str) -> None:
        known = [*PRESETS, CUSTOM]
        super().__init__(
            ErrorCode.INVALID,
            f"no agent is called {name[:100]!r}",
            hint=f"There are: {', '.join(known)}. For {CUSTOM}, give the agent's command line.",
            field="agent",
        )


def preset_named(name: str) -> Preset:
    """Return the preset of this name. Raises AgentUnknown."""
    try:
        return PRESETS[name]
    except KeyError:
        raise AgentUnknown(name) from None


def asks_in(agent: str | None, mode: str) -> bool:
    """Whether an agent, by its name, asks people in this mode; where that is not known it does not.

    A mode in which it does not ask is as good as a command line: rules for requests see nothing.
    """
    preset = PRESETS.get(agent or "")
    return preset is not None and mode.casefold() in preset.asking_modes

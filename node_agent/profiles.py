"""The node operator's profiles: an agent with its model, mode, arguments and environment, by name.

Pure. A secret is named (`secret:NAME`) until the very launch; no value of one stands in a profile.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from node_agent.acp.presets import CUSTOM, PRESETS
from node_agent.execution_environment import check_environment
from protocol.errors import ErrorCode, OperationError

_SECRET: Final = "secret:"  # noqa: S105  what references to secrets begin with
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[profiles.NAME]` of the settings file."""

    agent: Annotated[str, Meta(description="An agent's name, or custom.")]
    model: Annotated[str | None, Meta(description="The model, as the agent calls it.")] = None
    mode: Annotated[str | None, Meta(description="The mode, as the agent calls it.")] = None
    arguments: Annotated[
        list[str],
        Meta(description="Words after the agent's own; of custom, the whole command line."),
    ] = []
    environment: Annotated[
        dict[str, str],
        Meta(description="Variables; a value `secret:NAME` is that secret's value."),
    ] = {}


def check_profile(name: str, profile: Profile) -> None:
    """Raise OperationError (INVALID) where a profile cannot be one."""
    if not _NAME.fullmatch(name):
        raise _invalid(f"profiles: {name[:100]!r} cannot name a profile")
    if profile.agent != CUSTOM and profile.agent not in PRESETS:
        known = ", ".join([*PRESETS, CUSTOM])
        raise _invalid(f"profiles.{name}: no agent is called {profile.agent[:100]!r}", known)
    if any("\0" in word for word in profile.arguments):
        raise _invalid(f"profiles.{name}: an argument cannot have a NUL in it")
    if profile.agent == CUSTOM and not (profile.arguments and profile.arguments[0]):
        raise _invalid(f"profiles.{name}: of {CUSTOM}, `arguments` is the command line")
    check_environment(profile.environment)


def with_secrets(environment: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with the secrets it names; raises OperationError (INVALID)."""
    found = {}
    for name, value in environment.items():
        if value.startswith(_SECRET):
            secret = value.removeprefix(_SECRET)
            if secret not in secrets:
                raise OperationError(
                    ErrorCode.INVALID,
                    f"the profile's {name} wants a secret {secret[:100]!r} that is not set",
                    hint=f"At the node: `node-agent secrets set {secret[:100]}`.",
                    field="profile",
                )
            found[name] = secrets[secret]
        else:
            found[name] = value
    return found


def _invalid(message: str, known: str = "") -> OperationError:
    hint = f"There are: {known}." if known else "See Profiles in docs/coding-agents.md."
    return OperationError(ErrorCode.INVALID, message, hint=hint, field="profiles")

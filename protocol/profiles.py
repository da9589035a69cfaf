"""Profiles: an agent with its model, mode, arguments and environment, by name; what one may hold.

A node's operator keeps them in its settings, a project has them at the hive. A secret is named
(`secret:NAME`) and stays a name until the very launch, at the node. Pure.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocol.errors import ErrorCode, OperationError
from protocol.secret_names import holds_secret

#: The agents that are known by name, and the word for any other, by its command line.
AGENTS: Final = ("claude", "codex", "opencode", "gemini", "copilot", "qwen")
CUSTOM: Final = "custom"
#: What a value that names a secret begins with.
SECRET: Final = "secret:"  # noqa: S105  no secret, but how one is named
#: Of one project. They travel with every start of an agent, beside its prompt and its scripts.
PROFILES_MAX: Final = 50
PROFILES_BYTES_MAX: Final = 16 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE: Final = re.compile(r"[^=\0]{1,256}", re.DOTALL)
_SECRET_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: Skep's own, in the environment of every program of an attempt.
_OWN_PREFIX: Final = "SKEP_"
_HINT: Final = "See the section on profiles in docs/coding-agents.md."


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as it is to be run. `environment`: a value `secret:NAME` is a secret of the node."""

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

    @property
    def brings_words(self) -> bool:
        """Whether it says more than which agent, in which mode, with which model.

        Arguments and environment can make any program of an agent: they count as a command line.
        """
        return self.agent == CUSTOM or bool(self.arguments or self.environment)


class StrictProfile(Profile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As a person writes it: a word that means nothing is a mistake."""


def check_profile(name: str, profile: Profile) -> None:
    """Raise OperationError (INVALID) where a profile cannot be one."""
    if not _NAME.fullmatch(name):
        raise _invalid(f"profiles: {name[:100]!r} cannot name a profile")
    if profile.agent != CUSTOM and profile.agent not in AGENTS:
        known = ", ".join([*AGENTS, CUSTOM])
        raise _invalid(
            f"profiles.{name}: no agent is called {profile.agent[:100]!r}", f"There are: {known}."
        )
    for field, text in (("model", profile.model), ("mode", profile.mode)):
        if text is not None and (not text.strip() or not text.isprintable()):
            raise _invalid(f"profiles.{name}.{field}: one line of printable characters")
    if any("\0" in word for word in profile.arguments):
        raise _invalid(f"profiles.{name}: an argument cannot have a NUL in it")
    if profile.agent == CUSTOM and not (profile.arguments and profile.arguments[0]):
        raise _invalid(f"profiles.{name}: of {CUSTOM}, `arguments` is the command line")
    for variable, value in profile.environment.items():
        _check_variable(f"profiles.{name}.environment", variable, value)


def _check_variable(field: str, variable: str, value: str) -> None:
    if not _VARIABLE.fullmatch(variable) or "\0" in value:
        raise _invalid(f"{field}: {variable[:100]!r} cannot be set")
    if variable.startswith(_OWN_PREFIX):
        raise _invalid(f"{field}: {variable[:100]} is Skep's own to set")
    secret = named_secret(value)
    if secret is not None and not _SECRET_NAME.fullmatch(secret):
        raise _invalid(f"{field}.{variable}: {secret[:100]!r} cannot name a secret")


def check_project_profiles(profiles: Mapping[str, Profile]) -> None:
    """Raise OperationError (INVALID) where these cannot be a project's.

    What everyone who reads the project can see has no secret in it.
    """
    if len(profiles) > PROFILES_MAX:
        raise _invalid(f"profiles: at most {PROFILES_MAX} of one project")
    for name, profile in profiles.items():
        check_profile(name, profile)
        for variable, value in profile.environment.items():
            if named_secret(value) is None and holds_secret(variable, value):
                raise _invalid(
                    f"profiles.{name}.environment.{variable}: a secret stays at its nodes",
                    f"At each node: `node-agent secrets set NAME`; here the value is {SECRET}NAME.",
                )
    if len(msgspec.json.encode(profiles)) > PROFILES_BYTES_MAX:
        raise _invalid(f"profiles: at most {PROFILES_BYTES_MAX} bytes of one project")


def named_secret(value: str) -> str | None:
    """Return the name of the secret that a variable's value stands for; None: it is the value."""
    return value.removeprefix(SECRET) if value.startswith(SECRET) else None


def _invalid(message: str, hint: str = _HINT) -> OperationError:
    return OperationError(ErrorCode.INVALID, message, hint=hint, field="profiles")

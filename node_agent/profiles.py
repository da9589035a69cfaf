"""Profiles at this node: whether an agent takes what one says, and its secrets at the very launch.

Pure. A secret stays a name until then; no value of one stands in a profile.
"""

from collections.abc import Mapping

from node_agent.acp.presets import PRESETS
from protocol.errors import ErrorCode, OperationError
from protocol.profiles import Profile, check_profile, named_secret


def check_launchable(name: str, profile: Profile) -> None:
    """Raise OperationError (INVALID) where a profile cannot be one, or says what is Skep's to say.

    Which words an agent reserves is known here alone: a hive may be older than its nodes.
    """
    check_profile(name, profile)
    preset = PRESETS.get(profile.agent)
    if preset is None:
        return
    for word in profile.arguments:
        flag, _, _ = word.partition("=")
        # Of a short one the value may follow at once.
        flag = flag if flag in preset.reserved or word.startswith("--") else word[:2]
        if flag in preset.reserved:
            raise OperationError(
                ErrorCode.INVALID,
                f"profiles.{name}: {flag[:100]} is not a profile's to say to {preset.title}",
                hint="How it speaks, where it works and in which session is Skep's to say.",
                field="profiles",
            )


def with_secrets(environment: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with the secrets it names; raises OperationError naming one."""
    found = {}
    for name, value in environment.items():
        secret = named_secret(value)
        if secret is not None and secret not in secrets:
            raise OperationError(
                ErrorCode.EXECUTOR_UNAVAILABLE,
                f"the profile's {name} wants a secret {secret[:100]!r}, which this node has not",
                hint=f"At the node: `node-agent secrets set {secret[:100]}`.",
                field="profile",
                secret=secret[:100],
            )
        found[name] = value if secret is None else secrets[secret]
    return found

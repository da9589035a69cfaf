"""Who this node is at a forge: a token its operator keeps here, else the one `gh` has.

A token is read where it is used, for one operation. Must not keep, log or send it elsewhere.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from node_agent.config import NodeConfig
from node_agent.forge.gh_program import token_of_gh
from node_agent.forge.places import Forge
from node_agent.secret_values import read_secrets


@dataclass(frozen=True)
class ForgeAccess:
    """The forge this node works with, and where its token is kept."""

    forge: Forge
    secrets_file: Path
    #: The secret's name; the value is looked up anew for each operation.
    secret: str

    @classmethod
    def of(cls, config: NodeConfig) -> "ForgeAccess":
        """Make it of the node's settings."""
        forge = Forge.of(config.github_url, config.github_api_url, config.github_hosts)
        return cls(forge, config.secrets_file, config.github_token_secret)

    async def token(self) -> str:
        """Return the token. Raises CliMissing and NotLoggedIn where there is none."""
        secrets = await asyncio.to_thread(read_secrets, self.secrets_file)
        if kept := secrets.get(self.secret, "").strip():
            return kept
        return await token_of_gh(self.forge, self.secret)

"""Whose name stands on commits."""

import pytest

from node_agent.git.commit_identity import commit_identity, parse_identity
from node_agent.git.errors import InvalidInput
from node_agent.git.repository import open_repository
from tests.node_agent.git.repositories import Sample


@pytest.mark.asyncio
async def test_order_of_precedence(sample: Sample) -> None:
    """Git's own settings, then the node's setting, then the node itself."""
    repository = await open_repository(sample.path)
    setting = "Team Bot <bot@example.org>"
    found = await commit_identity(repository, setting=None, node_name="bee")
    assert (found.name, found.email) == ("Skep on bee", "skep@node.invalid")
    found = await commit_identity(repository, setting=setting, node_name="bee")
    assert (found.name, found.email, found.source) == ("Team Bot", "bot@example.org", "setting")
    sample.git("config", "user.name", "Grace")
    found = await commit_identity(repository, setting=setting, node_name="bee")
    assert found.source == "setting"
    sample.git("config", "user.email", "grace@example.org")
    found = await commit_identity(repository, setting=setting, node_name="bee")
    assert (found.name, found.email, found.source) == ("Grace", "grace@example.org", "git")


@pytest.mark.asyncio
async def test_identity_works_for_git(sample: Sample) -> None:
    """With no name set anywhere, git commits by the environment we give."""
    repository = await open_repository(sample.path)
    found = await commit_identity(repository, setting=None, node_name=" <b>\n")
    await repository.git("commit", "--allow-empty", "-m", "x", env=found.environment)
    assert (
        sample.git("log", "-1", "--format=%an|%ae|%cn") == "Skep on b|skep@node.invalid|Skep on b"
    )


@pytest.mark.asyncio
async def test_nameless_node_still_commits(sample: Sample) -> None:
    """A name that is nothing but marks git takes away is not used."""
    repository = await open_repository(sample.path)
    found = await commit_identity(repository, setting=None, node_name="<>")
    assert found.name == "Skep"


@pytest.mark.parametrize(
    "setting", ["Ada", "Ada ada@x", "<a@x>", "Ada <a b>", "<> <a@x>", ". <a@x>"]
)
def test_unusable_setting_is_named(setting: str) -> None:
    """A setting git could not use is refused by name."""
    with pytest.raises(InvalidInput) as raised:
        parse_identity(setting)
    assert raised.value.field == "git_identity"

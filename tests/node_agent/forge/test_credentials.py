"""Whose token is used: the operator's own before that of `gh`."""

from pathlib import Path

import pytest

from node_agent.config import NodeConfig
from node_agent.forge.credentials import ForgeAccess
from node_agent.secret_values import remove_secret, set_secret
from protocol.errors import ErrorCode, OperationError
from tests.node_agent.forge.fake_gh import install, logged_in


@pytest.mark.asyncio
async def test_the_secret_then_gh_then_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret is read anew each time; without it gh is asked; without both it is said so."""
    config = NodeConfig(
        data_dir=tmp_path, github_url="https://git.example", github_token_secret="work"
    )
    access = ForgeAccess.of(config)
    script = logged_in("of-gh", "git.example", tmp_path / "calls")
    monkeypatch.setenv("PATH", install(tmp_path / "bin", script)["PATH"])
    set_secret(config.secrets_file, "github_token", "not-this-one")
    set_secret(config.secrets_file, "work", " kept-here\n")
    assert await access.token() == "kept-here"
    assert not (tmp_path / "calls").exists()
    remove_secret(config.secrets_file, "work")
    assert await access.token() == "of-gh"
    (tmp_path / "bin" / "gh").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(OperationError) as caught:
        await access.token()
    assert (caught.value.code, caught.value.details["secret"]) == (ErrorCode.CLI_MISSING, "work")

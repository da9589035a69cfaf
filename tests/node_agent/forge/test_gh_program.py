"""The `gh` program as a keeper of tokens: there, not there, not logged in, odd."""

from pathlib import Path

import pytest

from node_agent.forge import gh_program
from node_agent.forge.gh_program import token_of_gh
from node_agent.forge.places import Forge
from protocol.errors import ErrorCode, OperationError
from tests.node_agent.forge.fake_forge import TOKEN
from tests.node_agent.forge.fake_gh import install, logged_in

FORGE = Forge.of("https://git.corp.example")


@pytest.mark.asyncio
async def test_the_token_of_the_host(tmp_path: Path) -> None:
    """It is asked for this host's token, and for nothing else."""
    calls = tmp_path / "calls"
    environment = install(tmp_path / "bin", logged_in(TOKEN, FORGE.host, calls))
    assert await token_of_gh(FORGE, "github_token", environment) == TOKEN
    assert calls.read_text() == "auth token --hostname git.corp.example\n"


@pytest.mark.asyncio
async def test_our_own_settings_are_not_shown_to_it(tmp_path: Path) -> None:
    """What is Skep's in the environment stays out of the program's, and no question is asked."""
    environment = install(tmp_path / "bin", 'echo "x${SKEP_TOKEN}y$GH_PROMPT_DISABLED"; cat')
    environment["SKEP_TOKEN"] = "ours"
    assert await token_of_gh(FORGE, "github_token", environment) == "xy1"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 1", ErrorCode.NOT_LOGGED_IN),
        ("exit 4", ErrorCode.NOT_LOGGED_IN),
        ("exit 0", ErrorCode.NOT_LOGGED_IN),
        ("echo two words", ErrorCode.NOT_LOGGED_IN),
        ("printf 'a\\nb: c\\n'", ErrorCode.NOT_LOGGED_IN),
        ("printf '\\377\\376'", ErrorCode.NOT_LOGGED_IN),
        ("head -c 300000 /dev/zero | tr '\\0' ' '", ErrorCode.NOT_LOGGED_IN),
        ("sleep 60", ErrorCode.FORGE_FAILED),
    ],
)
@pytest.mark.asyncio
async def test_no_token(
    script: str, code: ErrorCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is not one word of ASCII is no token, and a program that hangs is ended."""
    monkeypatch.setattr(gh_program, "_TIMEOUT_S", 1.0)
    with pytest.raises(OperationError) as caught:
        await token_of_gh(FORGE, "github_token", install(tmp_path / "bin", script))
    assert caught.value.code is code
    assert caught.value.hint


@pytest.mark.asyncio
async def test_no_program(tmp_path: Path) -> None:
    """Without the program the error names both ways out."""
    with pytest.raises(OperationError) as caught:
        await token_of_gh(FORGE, "github_token", {"PATH": str(tmp_path)})
    assert caught.value.code is ErrorCode.CLI_MISSING
    assert "secrets set github_token" in caught.value.hint
    assert "gh" in caught.value.hint

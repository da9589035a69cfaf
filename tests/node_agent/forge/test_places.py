"""Addresses of origins and of pull requests: whose they are, and whose they are not."""

import pytest

from node_agent.forge.places import Forge, Place, number_of, place_of
from protocol.errors import ErrorCode, OperationError

GITHUB = Forge.of("https://github.com")
ENTERPRISE = Forge.of("https://Git.Corp.example:8443/", hosts=["work-git"])
PLACE = Place("acme", "widgets")


def test_where_the_api_is() -> None:
    """GitHub's own API has a host of its own, another's a path; a setting says otherwise."""
    assert GITHUB.api_url == "https://api.github.com"
    assert ENTERPRISE.api_url == "https://git.corp.example:8443/api/v3"
    assert Forge.of("https://a.example", "https://b.example/x/").api_url == "https://b.example/x"


@pytest.mark.parametrize(
    ("forge", "origin"),
    [
        (GITHUB, "https://github.com/acme/widgets.git"),
        (GITHUB, "https://token@github.com/acme/widgets"),
        (GITHUB, "git@github.com:acme/widgets.git"),
        (GITHUB, "ssh://git@ssh.github.com:443/acme/widgets.git"),
        (GITHUB, "git@GitHub.com:acme/widgets/"),
        (ENTERPRISE, "https://git.corp.example:8443/acme/widgets.git"),
        (ENTERPRISE, "git@git.corp.example:acme/widgets.git"),
        (ENTERPRISE, "work-git:acme/widgets.git"),
    ],
)
def test_origins_of_the_forge(forge: Forge, origin: str) -> None:
    """However a clone spells it, the repository is the same."""
    assert place_of(forge, origin) == PLACE


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "/srv/git/widgets.git",
        "file:///srv/github.com/acme/widgets.git",
        "https://gitlab.com/acme/widgets.git",
        "https://github.com.evil.example/acme/widgets.git",
        "https://evil.example/github.com/acme/widgets.git",
        "https://github.com:444/acme/widgets.git",
        "https://github.com/acme",
        "https://github.com/acme/group/widgets.git",
        "https://github.com/acme/wid%20gets.git",
        "https://github.com/acme/..",
        "https://github.com/acme/widgets%3Fa=b",
    ],
)
def test_origins_elsewhere(origin: str | None) -> None:
    """What is no repository of the forge is said so, with the settings that may help."""
    with pytest.raises(OperationError) as caught:
        place_of(GITHUB, origin)
    assert caught.value.code is ErrorCode.NO_FORGE
    assert "github_hosts" in caught.value.hint


def test_an_origin_with_a_password_is_not_shown() -> None:
    """What an error says of an address has no credentials in it."""
    with pytest.raises(OperationError) as caught:
        place_of(GITHUB, "https://me:secret@gitlab.com/a/b.git")
    assert "secret" not in str(caught.value.body())


def test_addresses_of_pull_requests() -> None:
    """A pull request's page, or a page below it, gives its number."""
    for url in (
        "https://github.com/acme/widgets/pull/12",
        " https://GitHub.com/Acme/Widgets/pull/12/files",
    ):
        assert number_of(GITHUB, PLACE, url) == 12
    for url in (
        "https://github.com/acme/other/pull/12",
        "https://gitlab.com/acme/widgets/pull/12",
        "https://github.com/acme/widgets/issues/12",
        "https://github.com/acme/widgets/pull/x",
        "ftp://github.com/acme/widgets/pull/12",
        "http://[",
        "12",
    ):
        with pytest.raises(OperationError) as caught:
            number_of(GITHUB, PLACE, url)
        assert (caught.value.code, caught.value.details["field"]) == (ErrorCode.INVALID, "url")

"""The address of a repository in one form."""

import pytest

from node_agent.git.remote_url import last_name, normalised


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:org/Repo.git",
        "github.com:org/Repo",
        "github.com:/org/Repo.git",
        "ssh://git@GitHub.com/org/Repo.git",
        "ssh://git@github.com:22/org/Repo",
        "git+ssh://github.com/org/Repo.git/",
        "https://github.com/org/Repo",
        "https://user:token@github.com:443/org/Repo.git/",
        "HTTPS://github.com//org/Repo.git",
        "http://github.com:80/org/Repo",
        "git://github.com:9418/org/Repo.git",
        " https://github.com./org/Repo.git\n",
        "https://github.com/org/%52epo.git",
    ],
)
def test_all_spellings_are_one(url: str) -> None:
    """Protocol, user, default port, case of the host and `.git` do not matter."""
    assert normalised(url) == "github.com/org/Repo"


def test_what_tells_repositories_apart_stays() -> None:
    """The path's case and a port that is not the default remain."""
    assert normalised("https://h.example/Org/x") != normalised("https://h.example/org/x")
    assert normalised("ssh://git@h.example:2222/x.git") == "h.example:2222/x"
    assert normalised("ssh://git@[2001:DB8::1]:22/x.git") == "[2001:db8::1]/x"
    assert normalised("git@[::1]:x.git") == "[::1]/x"
    assert normalised("https://h.example/a@b/x") == "h.example/a@b/x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/git/x.git",
        "../x",
        "./a:b",
        "file:///srv/x.git",
        "C:\\x",
        "C:/x",
        "ext::sh -c x",
        "foo::bar",
        "https:///x",
        "https://host",
        "https://host/.git",
        "https://h:port/x",
        "s3://bucket/x",
    ],
)
def test_addresses_of_one_machine_identify_nothing(url: str) -> None:
    """A path or a helper's address means nothing on another node."""
    assert normalised(url) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("git@github.com:org/repo.git", "repo"),
        ("https://h/x/y/", "y"),
        ("/srv/git/x.git", "x"),
        ("/srv/x/.git", "x"),
        ("repo", "repo"),
        ("", None),
    ],
)
def test_last_name_is_what_a_clone_is_called(url: str, name: str | None) -> None:
    """A project's first name is the repository's."""
    assert last_name(url) == name

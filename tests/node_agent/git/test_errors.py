"""What errors of git carry: bounded, and without credentials."""

from node_agent.git.errors import shown


def test_what_is_shown() -> None:
    """Credentials of addresses are left out, and a text of any length is cut."""
    assert shown("see https://me:secret@x.example/a") == "see https://***@x.example/a"
    assert shown("\udcff") == "\\udcff"
    # Looked through as a whole, one word of this length would take minutes.
    long = shown("x" * 5_000_000)
    assert long == "x" * 300 + "..."

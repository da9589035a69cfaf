"""How a command speaks to people: words of others stand as they are, and do nothing."""

from rich.text import Text

from node_agent.commands.invocation import plain


def test_words_of_others_do_nothing_to_a_terminal():
    """Brackets are no markup, and what moves the cursor or changes colours is not sent on."""
    shown = Text.from_markup(plain("[/b] rm -rf /\x1b[2K\rls [red]x[/red]"))
    assert shown.plain == "[/b] rm -rf /�[2K�ls [red]x[/red]"
    assert plain(None) == ""
    assert plain(7) == "7"

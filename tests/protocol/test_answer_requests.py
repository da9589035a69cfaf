"""What people mean by the words of an answer."""

import pytest

from protocol.answer_requests import answer_in_words
from protocol.errors import OperationError

OPTIONS = [
    {"id": "a", "name": "Allow"},
    {"id": "b", "name": "Allow always"},
    {"id": "c", "name": "Twice"},
    {"id": "d", "name": "twice"},
]


def test_an_option_by_its_id_or_its_name():
    """However it is capitalised, where just one is called so."""
    for words in ("a", "A", "Allow", " allow "):
        assert answer_in_words(words, OPTIONS, free_text=True) == {"option": "a"}
    assert answer_in_words("twice", OPTIONS, free_text=True) == {"option": "d"}


def test_other_words_are_a_text_where_one_is_taken():
    """Else they are sent as an option, and the node says which there are."""
    assert answer_in_words("no", OPTIONS, free_text=True) == {"text": "no"}
    assert answer_in_words("no", OPTIONS, free_text=False) == {"option": "no"}


@pytest.mark.parametrize(
    ("words", "meant"), [("TWICE", ["c", "d"]), ("1", ["1", "2"]), ("same", ["3", "4"])]
)
def test_words_that_fit_two_options_answer_nothing(words: str, meant: list[str]):
    """Neither is guessed: "1" may be the first option, or the one that is called so."""
    options = [
        *OPTIONS,
        {"id": "1", "name": "2"},
        {"id": "2", "name": "1"},
        {"id": "3", "name": "same"},
        {"id": "4", "name": "same"},
    ]
    with pytest.raises(OperationError) as caught:
        answer_in_words(words, options, free_text=True)
    assert caught.value.details["field"] == "option"
    assert all(one in caught.value.message for one in meant)
    assert answer_in_words("3", options, free_text=True) == {"option": "3"}
    alone = [{"id": "yes", "name": "Yes"}]
    assert answer_in_words("yes", alone, free_text=False) == {"option": "yes"}

"""What people mean by the words of an answer."""

from protocol.answer_requests import answer_in_words

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
    assert answer_in_words("TWICE", OPTIONS, free_text=False) == {"option": "TWICE"}

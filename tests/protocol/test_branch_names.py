"""Names of branches, as both ends judge them; the node's own tests have many more."""

import pytest

from protocol.branch_names import BRANCH_CHARACTERS_MAX, wrong_branch_name, wrong_ref_name


@pytest.mark.parametrize("name", ["main", "skep/a-1", "fix/#7", "\u00e9", "\u4e2d/\u6587", "v1.2"])
def test_names_in_any_script(name: str):
    """Such as people give."""
    assert (wrong_ref_name(name), wrong_branch_name(name)) == ("", "")


@pytest.mark.parametrize(
    "name", ["", "-x", "a b", "a\n", "\0", "a..b", "a.lock", "e\u0301", "a" * 182, "\U0001f600"]
)
def test_what_can_be_no_name_has_a_hint(name: str):
    """Whoever gave it reads how to give another."""
    assert wrong_ref_name(name).endswith(".")
    assert wrong_branch_name(name) == wrong_ref_name(name)


@pytest.mark.parametrize("name", ["HEAD", "refs/heads/main", "a" * 40, "0123456789" * 4])
def test_what_may_be_looked_up_and_not_made(name: str):
    """It means something of its own to git."""
    assert wrong_ref_name(name) == "" or len(name) > BRANCH_CHARACTERS_MAX
    assert wrong_branch_name(name)

"""The installation that all fields of the matrix share."""

from collections.abc import Iterator

import pytest

for _module in ("branch_cases", "cell", "life_cases", "reading_cases"):
    # Their asserts tell what they saw, as those of a test's own module do.
    pytest.register_assert_rewrite(f"tests.end_to_end.matrix.{_module}")

from tests.end_to_end.matrix.installed import Installed  # noqa: E402  rewritten as it is imported


@pytest.fixture(scope="package")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A hive, a node with attempts and another one."""
    with Installed(tmp_path_factory.mktemp("matrix")) as made:
        yield made

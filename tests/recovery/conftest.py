"""The tiny study, undisturbed, to compare with."""

import pytest

from .killing import config_of, undisturbed


@pytest.fixture(scope="session")
def expected(tmp_path_factory) -> dict[str, bytes]:
    """What an undisturbed run of the tiny study leaves, by path."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), config_of("subject"))

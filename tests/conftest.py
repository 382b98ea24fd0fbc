"""What all tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALONE = "unit"  # whose files share nothing; each other folder's files share what takes minutes to make


def pytest_collection_modifyitems(items):
    """The longest tests first, since they stay on one worker of pytest-xdist: else it ends alone."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


def pytest_xdist_make_scheduler(config, log):
    """One worker of pytest-xdist runs what shares a fixture: a folder of tests, or one file of unit tests.

    Its own way to say so (`xdist_group`) does nothing in release 3.8.0 under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = Path(file).parent
            return file if folder.name == ALONE else str(folder)

    config.option.loadscopereorder = False  # the longest are first, not the most
    return ByFolder(config, log)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scanner data beside the project; tests that need it skip without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the scanner data in ../shared/data, which is absent")
    return folder

"""Opens the report of a made-up study in a real browser without a network, and watches what the page says and asks."""

import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

DRAWN = """() => document.readyState === "complete" && [...document.querySelectorAll(".plot")].every((plot) =>
    plot.querySelector(".main-svg") && plot.parentElement.querySelector(".plot").data)"""


def pytest_collection_modifyitems(items):
    """Mark what opens a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser():
    """Chromium as the system has it: Debian's package, or one named chrome."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs chromium on PATH, which is absent")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def vary(fake, name, column):
    """Make every row of a made-up table another number, so that every choice shows something else."""
    fake.edit(name, lambda table: table.assign(**{column: table[column] * (1 + table.index / 50)}))


@pytest.fixture(scope="session")
def study(tmp_path_factory, browser):
    """An edited study of four subjects, one of which failed, and its page."""
    from fake_results import FakeResults

    fake = FakeResults(tmp_path_factory.mktemp("edited"), subjects=4, failed=True, phantom=True)
    for name, column in (("effective_transients", "n_eff"), ("fidelity", "value"), ("noise_spectrum", "ratio")):
        vary(fake, name, column)
    fake.page()
    return fake


@pytest.fixture(scope="session")
def averages(tmp_path_factory, browser):
    """A study of unedited averages that are reconstructed, and its page."""
    from fake_results import FakeResults

    fake = FakeResults(tmp_path_factory.mktemp("averages"), subjects=3, edited=False)
    fake.page()
    return fake


class Watched:
    """A page with everything that it said and asked for."""

    def __init__(self, context, address):
        self.address, self.said, self.asked = address, [], []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        context.route("**/*", lambda route: route.continue_() if route.request.url == address else route.abort())
        start = time.monotonic()
        self.page.goto(address)
        self.wait(DRAWN)
        self.drawn = time.monotonic() - start

    def wait(self, condition, seconds=30):
        """Wait until a function of the page is true; the page's policy forbids what playwright has for this."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"not within {seconds} s: {condition}"
            time.sleep(0.02)


@contextmanager
def opened(browser, fake, **options):
    """Open a study's page in a fresh context; at the end it must have said nothing and asked for nothing else."""
    context = browser.new_context(
        **({"viewport": {"width": 1280, "height": 900}, "accept_downloads": True} | options), offline=True
    )
    watched = Watched(context, (fake.root / "report.html").as_uri())
    try:
        yield watched
        assert watched.said == []
        assert [url for url in watched.asked if not url.startswith("blob:")] == [watched.address]
    finally:
        context.close()


@pytest.fixture
def shown(browser, study):
    """The edited study's page, freshly opened."""
    with opened(browser, study) as watched:
        yield watched.page


@pytest.fixture(scope="session")
def shared(browser, study):
    """The same, opened once for the tests that leave every figure's choices as they are."""
    with opened(browser, study) as watched:
        yield watched.page

"""Markup that is planted all over a study runs nothing in a browser, whatever is chosen and hovered over."""

import pytest
from conftest import opened

LEFT = """() => ({
    elements: document.querySelectorAll("img, iframe, object, embed, [href^='javascript' i]").length,
    handlers: [...document.querySelectorAll("*")].flatMap((e) => [...e.attributes])
        .filter((a) => a.name.startsWith("on") && !a.ownerElement.closest(".plot")).length,
    shown: document.body.textContent.includes("<img src=x onerror=alert(1)>"),
})"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory, browser):
    """A study with the texts of the unit tests in every place, and its page."""
    from fake_results import FakeResults
    from test_planted_text import EVIL, plant

    fake = FakeResults(tmp_path_factory.mktemp("planted"), failed=True, site=EVIL)
    plant(fake)
    fake.page()
    return fake


def test_no_planted_script_runs(browser, planted):
    with opened(browser, planted) as watched:  # which fails for every dialog, error, refused script and request
        page = watched.page
        for number in range(page.locator("select").count()):
            choice = page.locator("select").nth(number)
            for value in choice.evaluate("(s) => [...s.options].map((o) => o.value)"):
                choice.evaluate(
                    "(s, v) => { s.value = v; s.dispatchEvent(new Event('change', {bubbles: true})); }", value
                )
        for number in range(page.locator(".plot").count()):
            box = page.locator(".plot").nth(number)
            if box.is_visible():
                box.scroll_into_view_if_needed()
                box.hover(force=True)
        page.wait_for_timeout(200)
        left = page.evaluate(LEFT)
    assert left == {"elements": 0, "handlers": 0, "shown": True}


def test_a_planted_script_would_be_seen(browser, planted):
    """The positive control: the same text as markup runs, or is refused aloud."""
    with pytest.raises(AssertionError), opened(browser, planted) as watched:
        watched.page.evaluate("() => { document.body.innerHTML += '<img src=x onerror=alert(1)>'; }")
        watched.page.wait_for_timeout(500)
    assert watched.said

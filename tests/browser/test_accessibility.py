"""axe-core finds no serious fault, in the first view, after choices, on a narrow screen."""

import pytest
from conftest import opened

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe


def serious(page, context=None):
    """What axe-core finds of impact serious or critical, as text."""
    found = Axe().run(page, context=context, options={"resultTypes": ["violations"], "performanceTimer": False})
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node['html'][:160]}"
        for rule in found.response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def test_first_view(shared):
    assert serious(shared) == []


def test_after_choices_on_a_narrow_screen(browser, averages):
    with opened(browser, averages, viewport={"width": 400, "height": 900}) as watched:
        page = watched.page
        page.evaluate("""() => {
            for (const details of document.querySelectorAll("details")) details.open = true;
            for (const select of document.querySelectorAll("select")) {
                select.selectedIndex = select.options.length - 1;
                select.dispatchEvent(new Event("change"));
            }
            for (const last of document.querySelectorAll("fieldset > button:last-child")) last.click();
            for (const heading of document.querySelectorAll("thead th:first-child button")) heading.click();
        }""")
        assert serious(page) == []


def test_every_figure_has_words(shared):
    for plot in shared.locator(".plot").all():
        label = plot.get_attribute("aria-label")
        assert plot.get_attribute("role") == "img" and len(label) > 15
        assert plot.locator("button, a, [tabindex]").count() == 0  # what is inside an image is hidden from readers
    assert all(len(text.strip()) > 15 for text in shared.locator("figcaption").all_text_contents())


def test_axe_notices_faults(shared):
    """The positive control."""
    shared.evaluate("() => document.getElementById('failed').insertAdjacentHTML('beforeend', '<button></button>')")
    assert any("button-name" in text for text in serious(shared, "#failed"))

"""Every control changes what is drawn, by mouse and keyboard, and the drawn numbers are the right ones."""

import numpy as np
import pytest
from conftest import opened

# What a figure shows, as text: all that is drawn but for clip paths' names.
SIGNATURE = """(plot) => [...plot.querySelectorAll(".main-svg")].map((svg) => svg.innerHTML)
    .join("").replace(/\\bid="[^"]*"|url\\([^)]*\\)/g, "")"""

# Clicks every button and chooses every option of a figure; lists those that changed nothing that is drawn.
SWEEP = f"""async () => {{
    const signature = {SIGNATURE}, dead = [], counts = {{}};
    const settle = () => new Promise((done) => setTimeout(done, 0));
    for (const plot of document.querySelectorAll(".plot")) {{
        let n = 0, label = plot.getAttribute("aria-label");
        const check = async (what, act) => {{
            const before = signature(plot);
            act();
            await settle();
            n += 1;
            if (signature(plot) === before) dead.push(`${{plot.dataset.figure}}: ${{what}}`);
        }};
        for (const group of plot.parentElement.querySelectorAll("[data-control]")) {{
            const name = group.dataset.control;
            if (group.tagName === "SELECT") {{
                for (const option of [...group.options].reverse()) {{
                    if (option.selected) continue;
                    await check(`${{name}} = ${{option.label}}`, () => {{
                        group.value = option.value;
                        group.dispatchEvent(new Event("change"));
                    }});
                    if (plot.getAttribute("aria-label") === label) dead.push(`${{name}}: the label is the same`);
                    label = plot.getAttribute("aria-label");
                }}
                group.selectedIndex = 0;
                group.dispatchEvent(new Event("change"));
                continue;
            }}
            const buttons = [...group.querySelectorAll("button")];
            const many = group.dataset.many === "yes";
            for (const button of many ? buttons : [...buttons.slice(1), buttons[0]]) {{
                const pressed = button.getAttribute("aria-pressed");
                await check(`${{name}}: ${{button.textContent.trim()}}`, () => button.click());
                if (button.getAttribute("aria-pressed") === pressed) dead.push(`${{name}}: aria-pressed`);
                if (many) {{
                    await check(`${{name}}: ${{button.textContent.trim()}} again`, () => button.click());
                    continue;
                }}
                if (group.querySelectorAll("[aria-pressed=true]").length !== 1) dead.push(`${{name}}: not one pressed`);
            }}
        }}
        counts[plot.dataset.figure] = n;
    }}
    return {{dead, counts}};
}}"""

CURVES = """() => document.querySelector("[data-figure=spectra]").data.filter((t) => !t.fill).map((t) => (
    {name: t.name, lower: t.yaxis === "y2", x: [...t.x], y: [...t.y]}))"""


def figure(page, name):
    return page.locator(f"#figure-{name}")


def choose(page, name, **options):
    """Choose options of a figure by their labels."""
    for key, label in options.items():
        group = figure(page, name).locator(f"[data-control={key}]")
        if group.evaluate("(g) => g.tagName") == "SELECT":
            group.select_option(label=label)
        else:
            group.get_by_role("button", name=label, exact=True).click()


def curves(page, lower=False):
    found = page.evaluate(CURVES)
    return {c["name"].split(",")[0]: (np.array(c["x"]), np.array(c["y"], float)) for c in found if c["lower"] == lower}


def x_range(page, name="spectra"):
    return page.evaluate(f"() => document.querySelector('[data-figure={name}]').layout.xaxis.range")


@pytest.mark.parametrize("kind", ["study", "averages"])
def test_every_control_changes_its_figure(browser, request, kind):
    with opened(browser, request.getfixturevalue(kind)) as watched:
        found = watched.page.evaluate(SWEEP)
    assert found["dead"] == []
    if kind == "study":
        assert found["counts"]["spectra"] > 25 and all(found["counts"][f] > 0 for f in ("bias", "fits", "quality"))


def test_spectra_show_real_synthetic_and_their_difference(shown):
    assert set(curves(shown)) == {"real", "hybrid (sampled)"}
    choose(shown, "spectra", lower="difference from real", condition="OFF")
    upper, lower = curves(shown), curves(shown, lower=True)
    assert set(lower) == {"hybrid (sampled)"}
    np.testing.assert_allclose(
        lower["hybrid (sampled)"][1], upper["hybrid (sampled)"][1] - upper["real"][1], atol=1e-12
    )
    assert np.abs(lower["hybrid (sampled)"][1]).max() > 1e-3
    choose(shown, "spectra", series="real")
    assert set(curves(shown)) == {"hybrid (sampled)"}
    choose(shown, "spectra", series="interpolation (mean)")
    assert set(curves(shown, lower=True)) == {"hybrid (sampled)", "interpolation (mean)"}
    filled = "() => document.querySelector('[data-figure=spectra]').data.filter((t) => t.fill).length"
    assert shown.evaluate(filled) == 2
    choose(shown, "spectra", band="SD")
    assert shown.evaluate(filled) == 0


def test_mean_and_sd_over_scans_are_those_of_the_single_scans(shown, study):
    options = figure(shown, "spectra").locator("select option").all_text_contents()
    assert [text for text in options if text in study.units] == study.units[:-1]  # the last one failed
    means, variances = [], []
    for unit in study.units[:-1]:
        choose(shown, "spectra", unit=unit)
        means.append(curves(shown)["real"][1])
        variances.append(curves(shown, lower=True)["real"][1] ** 2)
    choose(shown, "spectra", unit="mean of 3 scans, SD of single transients")
    np.testing.assert_allclose(curves(shown)["real"][1], np.mean(means, axis=0), atol=2e-4)
    np.testing.assert_allclose(curves(shown, lower=True)["real"][1] ** 2, np.mean(variances, axis=0), atol=2e-3)
    choose(shown, "spectra", unit="mean of 3 scans, SD between scans")
    np.testing.assert_allclose(curves(shown)["real"][1], np.mean(means, axis=0), atol=2e-4)
    expected = np.std(means, axis=0, ddof=1)
    np.testing.assert_allclose(curves(shown, lower=True)["real"][1], expected, atol=2e-3 * expected.max())


def test_zoom_by_buttons_and_mouse_stays_until_it_is_reset(shown):
    high, low = x_range(shown)
    figure(shown, "spectra").get_by_role("button", name="Zoom in").click()
    middle, quarter = (high + low) / 2, (high - low) / 4
    assert x_range(shown) == pytest.approx([middle + quarter, middle - quarter])
    figure(shown, "spectra").get_by_role("button", name="Left").click()
    assert x_range(shown) == pytest.approx([middle + 1.5 * quarter, middle - 0.5 * quarter])
    choose(shown, "spectra", series="real", condition="ON")
    assert x_range(shown) == pytest.approx([middle + 1.5 * quarter, middle - 0.5 * quarter])
    reset = figure(shown, "spectra").get_by_role("button", name="Reset view")
    reset.click()
    assert x_range(shown) == pytest.approx([high, low])
    panel = shown.locator("[data-figure=spectra] .draglayer .nsewdrag").first
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    shown.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"])
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    shown.mouse.up()
    dragged = x_range(shown)
    assert dragged == pytest.approx([middle, middle - quarter], abs=0.03)
    choose(shown, "spectra", series="reconstruction")
    assert x_range(shown) == pytest.approx(dragged)
    reset.click()
    assert x_range(shown) == pytest.approx([high, low])
    choose(shown, "spectra", region="GABA region")
    assert x_range(shown) == [4.2, 2.6]


FOCUS = """() => {
    const e = document.activeElement, style = getComputedStyle(e);
    window.numbered ??= new Map();
    if (!window.numbered.has(e)) window.numbered.set(e, window.numbered.size);
    const text = (e.getAttribute("aria-label") || e.textContent).trim();
    return {number: window.numbered.get(e), tag: e.tagName, text,
            seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2};
}"""


def test_keyboard_reaches_everything_in_order_and_shows_where_it_is(shown):
    shown.keyboard.press("Tab")
    first = shown.evaluate(FOCUS)
    assert first["tag"] == "A" and first["text"] == "Skip to the content"
    assert shown.locator(".skip").bounding_box()["x"] >= 0
    reached = [first]
    expected = shown.evaluate("""() => [...document.querySelectorAll(
        "a[href], button, select, summary, [tabindex='0']")].filter((e) => e.checkVisibility()).length""")
    for _ in range(expected + 5):
        shown.keyboard.press("Tab")
        place = shown.evaluate(FOCUS)
        if place["number"] in (0, *(p["number"] for p in reached)) or place["tag"] == "BODY":
            break
        reached.append(place)
    assert len(reached) == expected
    assert [place["text"] for place in reached if not place["seen"]] == []
    assert all(place["text"] for place in reached)


def test_skip_link_and_keys_work(shown):
    shown.keyboard.press("Tab")
    shown.keyboard.press("Enter")
    assert shown.evaluate("() => document.activeElement.id") == "main"
    shown.keyboard.press("Tab")
    assert shown.evaluate("() => !!document.activeElement.closest('main')")
    for key in ("Enter", " "):
        button = figure(shown, "spectra").get_by_role("button", name="reconstruction", exact=True)
        pressed, count = button.get_attribute("aria-pressed"), len(curves(shown))
        button.focus()
        shown.keyboard.press(key)
        assert button.get_attribute("aria-pressed") != pressed and len(curves(shown)) != count
    select = figure(shown, "fits").locator("select").first
    title = shown.locator("[data-figure=fits]").get_attribute("aria-label")
    select.focus()
    shown.keyboard.press("ArrowDown")
    assert shown.locator("[data-figure=fits]").get_attribute("aria-label") != title
    folded = shown.locator("details:not([open]) > summary").first.element_handle()
    folded.focus()
    shown.keyboard.press("Enter")
    assert folded.evaluate("(s) => s.parentElement.open")
    heading = shown.locator("table.sortable thead button:visible").first
    heading.focus()
    shown.keyboard.press("Enter")
    assert heading.evaluate("(b) => b.closest('th').getAttribute('aria-sort')") == "ascending"

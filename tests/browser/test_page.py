"""The page opens without a network, says nothing, draws every figure, and fits every width and paper."""

import re
import shutil
import subprocess

import pytest
from conftest import opened

FIGURES = {"effective", "bias", "spectra", "fits", "quality", "losses", "transients", "agreement"}

LOADED = "() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
DRAWN = """() => Object.fromEntries([...document.querySelectorAll(".plot")].map((plot) => {
    const box = plot.querySelector(".main-svg").getBoundingClientRect();
    const marks = plot.querySelectorAll(".trace path, .trace .point, .boxes path").length;
    const groups = plot.querySelectorAll(".scatterlayer > .trace, .boxlayer > .trace, .bars.trace").length;
    return [plot.dataset.figure, {traces: plot.data.length, groups, marks, width: box.width, height: box.height,
                                  empty: plot.parentElement.querySelector(".empty").checkVisibility()}];
}))"""

# Legends that lie on tick labels, titles or another legend's text, and text that is cut off at the drawing's edge.
CLASHES = """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
    const boxes = (query) => [...plot.querySelectorAll(query)].map((e) => [e, e.getBoundingClientRect()]);
    const edge = plot.querySelector(".main-svg").getBoundingClientRect();
    const texts = boxes(".xtick text, .ytick text, .x2tick text, .y2tick text, .xtitle, .ytitle, .x2title, .y2title");
    const legends = boxes(".legendtext");
    const found = [];
    const beside = (a, b) => a.right < b.left + 1 || b.right < a.left + 1;
    const apart = (a, b) => beside(a, b) || a.bottom < b.top + 1 || b.bottom < a.top + 1;
    for (const [i, [legend, a]] of legends.entries()) {
        for (const [text, b] of [...texts, ...legends.slice(i + 1)])
            if (!apart(a, b)) found.push(`${plot.dataset.figure}: ${legend.textContent} on ${text.textContent}`);
    }
    for (const [text, b] of [...texts, ...legends])
        if (b.left < edge.left - 1 || b.right > edge.right + 1 || b.bottom > edge.bottom + 1)
            found.push(`${plot.dataset.figure}: ${text.textContent} is cut off`);
    return found;
})"""


def test_opens_without_a_word_or_request_and_draws_every_figure(browser, study, averages):
    for fake, expected in ((study, FIGURES), (averages, FIGURES - {"effective"})):
        with opened(browser, fake) as watched:
            drawn = watched.page.evaluate(DRAWN)
            loaded = watched.page.evaluate(LOADED)
            print(f"\n{len(drawn)} figures, content loaded after {loaded:.0f} ms, drawn after {watched.drawn:.1f} s")
        assert expected - {"bias"} <= set(drawn)
        for name, figure in drawn.items():
            assert figure["traces"] > 0 and figure["groups"] > 0, (name, figure)
            assert figure["marks"] >= figure["traces"] / 2 and not figure["empty"], (name, figure)
            assert figure["width"] > 600 and figure["height"] > 200, (name, figure)


def test_watch_notices_requests_and_errors(browser, averages):
    """The positive control of the test above: the policy blocks a request, and the console says so."""
    with pytest.raises(AssertionError), opened(browser, averages) as watched:
        watched.page.evaluate("() => { console.warn('look'); return fetch('https://example.org/').catch(() => 0); }")
    assert watched.said[0] == "warning: look"
    assert any("Content Security Policy" in text for text in watched.said)


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_overlaps_or_is_cut_off_or_scrolls_sideways(browser, study, width):
    with opened(browser, study, viewport={"width": width, "height": 900}) as watched:
        page = watched.page
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert page.evaluate(CLASHES) == []
        drawn = page.evaluate(DRAWN)
        assert all(figure["width"] <= width for figure in drawn.values())
        if width == 400:  # panels side by side become one above the other
            height = "document.querySelector('[data-figure=effective] .main-svg').getBoundingClientRect().height"
            tall = page.evaluate(f"() => {height}")
            page.set_viewport_size({"width": 1280, "height": 900})
            watched.wait(f"() => {height} < 0.7 * {tall}")
            watched.wait(f"() => ({CLASHES})().length === 0")


def test_scrolling_is_smooth_only_for_those_who_like_motion(shared):
    for motion, expected in (("reduce", "auto"), ("no-preference", "smooth")):
        shared.emulate_media(reduced_motion=motion)
        assert shared.evaluate("() => getComputedStyle(document.documentElement).scrollBehavior") == expected


def test_print_shows_every_figure_and_opens_what_is_folded(shown, tmp_path):
    before = shown.evaluate("() => document.querySelectorAll('details:not([open])').length")
    width = shown.evaluate("() => document.querySelector('.main-svg').getBoundingClientRect().width")
    shown.evaluate(
        """() => addEventListener("beforeprint", () => {
        window.printed = {
            widths: [...document.querySelectorAll(".plot .main-svg")].map((svg) => svg.getBoundingClientRect().width),
            folded: [...document.querySelectorAll("details:not([open])")].filter((d) => !d.closest("#tables")).length,
            clashes: (CLASHES)(),
        };
    })""".replace("CLASHES", CLASHES)
    )
    path = tmp_path / "page.pdf"
    shown.pdf(path=path, format="A4", prefer_css_page_size=True)
    printed = shown.evaluate("() => window.printed")
    assert path.read_bytes().startswith(b"%PDF-")
    assert len(printed["widths"]) >= 8 and all(500 < w <= 688 for w in printed["widths"])  # 182 mm
    assert printed["folded"] == 0 and before > 0
    assert printed["clashes"] == []
    assert shown.evaluate("() => document.querySelectorAll('details:not([open])').length") == before
    assert shown.evaluate("() => document.querySelector('.main-svg').getBoundingClientRect().width") == width
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout
        titles = shown.evaluate(
            "() => [...document.querySelectorAll('.xtitle, .ytitle')].map((t) => t.textContent.replace(/[_<].*/, ''))"
        )
        flat = re.sub(r"\s+", "", text)
        missing = [t for t in titles if re.sub(r"\s+", "", t) not in flat and "".join(t.split())[::-1] not in flat]
        assert len(titles) > 10 and not missing
        assert "Howthesewordsarechosen" in flat and "rooteansquare" not in flat


def test_paper_has_no_buttons_nor_contents(shared):
    shared.emulate_media(media="print")
    seen = shared.evaluate("""() => ["nav.contents", ".tools", "button.save", ".skip", "figure .main-svg", "figcaption"]
        .map((query) => [...document.querySelectorAll(query)].filter((e) => e.checkVisibility()).length)""")
    assert seen[:4] == [0, 0, 0, 0] and seen[4] >= 16 and seen[5] >= 8
    unpressed = "() => [...document.querySelectorAll('[aria-pressed=false]')].filter((b) => b.checkVisibility()).length"
    assert shared.evaluate(unpressed) == 0
    shared.emulate_media(media="screen")

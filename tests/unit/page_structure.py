"""A page of the report taken apart, for tests."""

import json
import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Structure(HTMLParser):
    """Collects elements, and checks that every element is closed by its own end tag."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.stack, self.ids, self.elements, self.headings, self.texts = [], [], [], [], []
        self.feed(page)
        self.close()
        assert not self.stack, f"not closed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]} at {self.getpos()}"
        self.stack.pop()

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def own_parts(page):
    """The page without plotly.js, which mentions addresses that it never loads in the page's figures."""
    return re.sub(r'<script id="plotly">.*?</script>', "", page, flags=re.S)


def figure_data(page):
    blocks = re.findall(r'<script type="application/json" id="data-([\w-]+)">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in blocks}

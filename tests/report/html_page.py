"""A page as a test reads it: its elements, its words."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "wbr"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes); checks that every element is closed where it must be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag: str, css: str = "") -> list[dict[str, str]]:
        return [a for name, a in self.elements if name == tag and (not css or css in a.get("class", "").split())]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

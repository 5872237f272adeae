"""Reading a page as a browser does: its forms, fields, links and the cards to compare."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Node:
    """An element with its attributes and, in order, its child elements and texts."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Node | str"] = field(default_factory=list)

    def find_all(self, *tags: str) -> Iterator["Node"]:
        """Every element below this one, in document order; only `tags` where given."""
        for child in self.children:
            if isinstance(child, Node):
                if not tags or child.tag in tags:
                    yield child
                yield from child.find_all(*tags)

    def with_class(self, suffix: str) -> "Node | None":
        """The first element below that has a class ending in `suffix`."""
        for node in self.find_all():
            if any(name.endswith(suffix) for name in node.attributes.get("class", "").split()):
                return node
        return None

    def text(self) -> str:
        """The text as a person copies it: line breaks kept, ends trimmed."""
        return "".join(self._texts()).strip()

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            elif child.tag == "br":
                yield "\n"
            else:
                yield from child._texts()


class _TreeBuilder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("document")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        for place in range(len(self._open) - 1, 0, -1):
            if self._open[place].tag == tag:
                del self._open[place:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


@dataclass(frozen=True)
class Option:
    """A radio button, tick box or list entry, with the text that stands beside it."""

    value: str
    label: str
    checked: bool


@dataclass(frozen=True)
class Card:
    """A candidate on the page. `value` is what the form sends, `position` counts from 0 in reading order."""

    position: int
    value: str
    letter: str
    text: str


@dataclass(frozen=True)
class Field:
    """Everything on a form that shares a name. `kind`: hidden, text, textarea, radio, checkbox or select."""

    name: str
    kind: str
    value: str = ""
    options: tuple[Option, ...] = ()
    typed_beside: bool = False
    minimum_words: int = 0

    @property
    def given(self) -> list[str]:
        """What the browser would send if nobody touched the form."""
        if self.kind in ("radio", "checkbox"):
            sent = [option.value for option in self.options if option.checked]
            return [self.value, *sent] if self.typed_beside else sent
        if self.kind == "select":
            chosen = [option.value for option in self.options if option.checked]
            return chosen or [option.value for option in self.options[:1]]
        return [self.value]


@dataclass(frozen=True)
class Button:
    name: str
    value: str


@dataclass(frozen=True)
class Form:
    """A form. `action` is empty where it is sent to the page's own address."""

    action: str
    method: str
    fields: dict[str, Field]
    buttons: tuple[Button, ...]
    cards: tuple[Card, ...]

    def button(self, name: str, value: str) -> Button | None:
        return next((button for button in self.buttons if (button.name, button.value) == (name, value)), None)

    def untouched(self) -> dict[str, list[str]]:
        """Every field with what stands in it already."""
        return {name: item.given for name, item in self.fields.items()}


@dataclass(frozen=True)
class Page:
    """One answer of the server."""

    url: str
    status: int
    root: Node
    body: str

    @property
    def name(self) -> str:
        """The last part of the address, for example `compare`."""
        path = self.url.split("?")[0].split("#")[0]
        return path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def language(self) -> str:
        return next((node.attributes.get("lang", "") for node in self.root.find_all("html")), "")

    @property
    def heading(self) -> str:
        return next((node.text() for node in self.root.find_all("h1")), "")

    @property
    def text(self) -> str:
        """The content in one line, for messages about it."""
        main = next(self.root.find_all("main"), self.root)
        return " ".join(main.text().split())

    @property
    def problem(self) -> str:
        """What the page says is wrong, if it does."""
        summary = next((node for node in self.root.find_all() if node.attributes.get("role") == "alert"), None)
        return " ".join(summary.text().split()) if summary is not None else ""

    @property
    def form(self) -> Form | None:
        """The form of the page's content; pages of ours have one at most."""
        main = next(self.root.find_all("main"), self.root)
        node = next((node for node in main.find_all("form") if node.attributes.get("method", "get").lower() == "post"), None)
        return _read_form(node) if node is not None else None

    @property
    def links(self) -> list[str]:
        """Addresses in the page's content, in order."""
        main = next(self.root.find_all("main"), self.root)
        return [node.attributes["href"] for node in main.find_all("a") if "href" in node.attributes]

    def link_to(self, part: str) -> str:
        """The first address anywhere on the page, its foot included, that contains `part`; else empty."""
        hrefs = (node.attributes.get("href", "") for node in self.root.find_all("a"))
        return next((href for href in hrefs if part in href), "")

    def attribute(self, name: str) -> str:
        """The value of the first element that carries the attribute `name`, else empty."""
        return next((node.attributes[name] for node in self.root.find_all() if name in node.attributes), "")


def parse_page(*, url: str, status: int, body: str) -> Page:
    builder = _TreeBuilder()
    builder.feed(body)
    builder.close()
    return Page(url=url, status=status, root=builder.root, body=body)


def _read_form(form: Node) -> Form:
    labels = _labels(form)
    fields: dict[str, Field] = {}
    buttons: list[Button] = []
    for node in form.find_all("input", "textarea", "select", "button"):
        name = node.attributes.get("name", "")
        kind = node.attributes.get("type", "text").lower() if node.tag == "input" else node.tag
        if node.tag == "button" or kind == "submit":
            buttons.append(Button(name=name, value=node.attributes.get("value", "")))
        elif name:
            fields[name] = _read_field(node, name, kind, labels, fields.get(name))
    return Form(
        action=form.attributes.get("action", ""),
        method=form.attributes.get("method", "get").lower(),
        fields=fields,
        buttons=tuple(buttons),
        cards=_cards(form),
    )


def _read_field(node: Node, name: str, kind: str, labels: dict[int, str], known: Field | None) -> Field:
    if kind in ("radio", "checkbox"):
        option = Option(node.attributes.get("value", "on"), labels.get(id(node), ""), "checked" in node.attributes)
        if known is None:
            return Field(name, kind, options=(option,))
        # A tick box beside a text field of the same name: a year of birth with “prefer not to say”.
        beside = known.typed_beside or known.kind == "text"
        return Field(name, kind, value=known.value, options=(*known.options, option), typed_beside=beside)
    if kind == "select":
        options = [
            Option(entry.attributes.get("value", entry.text()), entry.text(), "selected" in entry.attributes)
            for entry in node.find_all("option")
        ]
        return Field(name, kind, options=tuple(options))
    if kind == "textarea":
        minimum = node.attributes.get("data-minimum", "")
        # The line break after the opening tag belongs to the markup, not to the text.
        typed = "".join(child for child in node.children if isinstance(child, str)).removeprefix("\n")
        return Field(name, kind, value=typed, minimum_words=int(minimum) if minimum.isdecimal() else 0)
    return Field(name, "hidden" if kind == "hidden" else "text", value=node.attributes.get("value", ""))


def _labels(form: Node) -> dict[int, str]:
    """Text beside each input that stands within a label."""
    return {id(node): label.text() for label in form.find_all("label") for node in label.find_all("input")}


def _cards(form: Node) -> tuple[Card, ...]:
    cards: list[Card] = []
    for label in form.find_all("label"):
        radio = next((node for node in label.find_all("input") if node.attributes.get("type") == "radio"), None)
        letter, text = label.with_class("__letter"), label.with_class("__text")
        if radio is not None and letter is not None and text is not None:
            capitals = re.findall(r"\b[A-Z]\b", letter.text())
            cards.append(Card(len(cards), radio.attributes.get("value", ""), capitals[-1] if capitals else "", text.text()))
    return tuple(cards)

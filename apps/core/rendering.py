"""Markdown to HTML that cannot act: paragraphs, lists, emphasis and code; no links, images, headings or raw HTML."""

from functools import lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

_TAGS = {"p", "ul", "ol", "li", "strong", "em", "code", "pre", "blockquote", "br"}


@lru_cache
def _parser() -> MarkdownIt:
    rules = ["paragraph", "list", "emphasis", "backticks", "fence", "blockquote", "newline", "escape", "entity"]
    return MarkdownIt("zero", {"html": False, "breaks": True}).enable(rules)


def render_markdown(text: str) -> SafeString:
    """Render study texts (consent, guideline). The result is sanitised a second time by nh3."""
    return mark_safe(nh3.clean(_parser().render(text), tags=_TAGS, attributes={}))  # noqa: S308  (sanitised in this line)

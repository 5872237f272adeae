"""A person who walks the annotator pages in a real browser: by clicks and taps, or by keyboard alone.

Pages are told apart by their addresses and controls by their names, so that one walker serves every language. Nothing is known here of
the database: what was chosen is what stood on the screen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Page

# One explanation and one message per language, long enough for every minimum, with the accents and marks that people type.
REASONS = {
    "en": "Answer A names a first step I could take tomorrow, while another one only tells me to be patient and wait for the others.",
    "fr": "Cette réponse propose 2 étapes que je pourrais essayer dès demain, alors qu’une autre me dit seulement d’être patient.",
    "it": "Questa risposta propone un primo passo che potrei provare già domani, mentre un’altra mi dice soltanto di avere molta pazienza.",
    "pt": "Esta resposta sugere um primeiro passo que eu poderia dar já amanhã, enquanto outra só me diz para ter um pouco de paciência.",
    "hi": "इस जवाब में पहला कदम साफ़ बताया गया है जिसे मैं कल ही आज़मा सकती हूँ, जबकि दूसरे जवाब में बस सब्र रखने को कहा गया है।",
}
MESSAGES = {
    "en": "Thank you. And what if my family does not agree with that?",
    "fr": "Merci. Et que faire si ma famille n’est pas d’accord avec cela ?",
    "it": "Grazie. E se la mia famiglia non fosse d’accordo?",
    "pt": "Obrigada. E se a minha família não concordar com isso?",
    "hi": "धन्यवाद। और अगर मेरे परिवार के लोग इससे सहमत न हों, तो मैं क्या करूँ?",
}


@dataclass(frozen=True)
class Choice:
    """What a person saw and did on one comparison page: the texts from the first to the last, and which of them they chose."""

    message: str
    texts: tuple[str, ...]
    chosen: int
    explanation: str


@dataclass
class Walker:
    """Walks by clicks. `look(name)` is called on every page before anything is done there, once for each name.

    `pick` draws the place to choose from the number of comparisons made so far; `mistakes` sends each form wrongly first.
    """

    page: Page
    language: str = "en"
    turns: int = 2
    pick: Callable[[int], int] = lambda made: made % 4
    look: Callable[[str], None] = lambda name: None
    mistakes: bool = False
    choices: list[Choice] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def walk(self, link: str, until: str = "done", pages: int = 60) -> None:
        """Open `link` and go on until the page `until` stands there."""
        self.page.goto(link)
        for _ in range(pages):
            name = self.here()
            self.regard(name)
            if name == until:
                return
            getattr(self, f"on_{name}")()
        raise AssertionError(f"no {until} page after {pages} pages; the last ones were {self.seen[-5:]}")

    def here(self) -> str:
        """The name of the page: the last part of its address; `join` for the information page."""
        parts = urlsplit(self.page.url).path.strip("/").split("/")
        return parts[0] if parts[0] in {"join", "resume"} else parts[-1]

    def regard(self, name: str) -> None:
        self.seen.append(name)
        if self.seen.count(name) == 1:
            self.look(name)

    # --- How this person moves; the keyboard walker has its own way ---

    def tick(self, selector: str) -> None:
        self.page.locator(selector).check()

    def write(self, selector: str, text: str) -> None:
        self.page.locator(selector).fill(text)

    def choose(self, place: int) -> None:
        self.page.locator(".card").nth(place).click(position={"x": 60, "y": 80})

    def press(self, selector: str = "main form button") -> None:
        """Press a button or link, and wait for the page that follows."""
        with self.page.expect_navigation():
            self.page.locator(selector).first.click()

    # --- What there is to do on each page ---

    def on_join(self) -> None:
        if self.mistakes:
            self.press()
            self.regard("join-error")
        self.tick("[name=agreed]")
        self.press()

    def on_questions(self) -> None:
        required = self.page.locator("[name=q_adult]").count() > 0
        if self.mistakes and required:
            self.press()
            self.regard("questions-error")
        if not required:
            self.regard("questions-" + str(self.seen.count("questions")))
        self.answer_questions()
        self.press()

    def answer_questions(self) -> None:
        """Give the first answer to every question."""
        for name in self.page.locator("fieldset.question").evaluate_all("sets => sets.map(set => set.id)"):
            self.answer(name)

    def answer(self, name: str) -> None:
        if self.page.locator(f"#{name} [type=text]").count():
            self.write(f"#{name} [type=text]", "1985")
        elif self.page.locator(f"#{name} select").count():
            self.page.locator(f"#{name} select").select_option(index=3)
        else:
            self.page.locator(f"#{name} input").first.check()

    def on_consent(self) -> None:
        if self.mistakes:
            self.press()
            self.regard("consent-error")
        self.tick("[name=agreed]")
        self.press()

    def on_guideline(self) -> None:
        self.press()

    def on_practice(self) -> None:
        """Tries the first answer, then the second."""
        for place in (0, 1):
            if self.page.locator("main form").count():
                self.choose(place)
                self.press()
                good = self.page.locator(".notice--good").count()
                self.regard("practice-right" if good else "practice-again")
        self.press("main a.button")

    def on_start(self) -> None:
        self.press()

    def on_compare(self) -> None:
        if self.mistakes:
            self.press("#comparison button")
            self.regard("compare-error")
        place = self.pick(len(self.choices))
        reason = REASONS[self.language]
        made = Choice(
            message=self.page.locator(".bubble__text").last.text_content() or "",
            texts=tuple(self.page.locator(".card__text").all_text_contents()),
            chosen=place,
            explanation=reason,
        )
        self.choose(place)
        self.write("#explanation", reason)
        self.regard("compare-chosen")
        self.press("#comparison button")
        self.choices.append(made)

    def on_message(self) -> None:
        replies = self.page.locator(".bubble--reply").count()
        if replies >= self.turns:
            self.regard("message-end")
            self.press("[value=end]")
            return
        if self.mistakes:
            self.press("[value=send]")
            self.regard("message-error")
        text = MESSAGES[self.language]
        self.write("#message", text)
        self.press("[value=send]")
        self.messages.append(text)

    def on_wait(self) -> None:
        """Only waits: the page goes on by itself, with JavaScript or without."""
        self.page.wait_for_url(lambda url: "/wait/" not in url, timeout=40_000)

    def on_trouble(self) -> None:
        raise AssertionError("the candidates of a live turn could not be made")


class KeyboardWalker(Walker):
    """Walks by Tab, arrows, digits, Space and Enter; never touches the mouse."""

    def tab_to(self, selector: str, presses: int = 80) -> None:
        """Press Tab until an element that matches has the focus. Its focus must be visible."""
        for _ in range(presses):
            self.page.keyboard.press("Tab")
            focus = self.page.evaluate(
                """selector => {
                    const here = document.activeElement;
                    const shown = here.closest(".card") || here;
                    return [here.matches(selector), here === document.body || parseFloat(getComputedStyle(shown).outlineWidth) > 0];
                }""",
                selector,
            )
            assert focus[1], f"the focus cannot be seen on the way to {selector} on {self.page.url}"
            if focus[0]:
                return
        raise AssertionError(f"{selector} cannot be reached with Tab on {self.page.url}")

    def tick(self, selector: str) -> None:
        self.tab_to(selector)
        self.page.keyboard.press("Space")

    def write(self, selector: str, text: str) -> None:
        self.tab_to(selector)
        self.page.keyboard.type(text)

    def choose(self, place: int) -> None:
        """The first comparison by Tab and arrows, the others by the number keys."""
        if self.choices:
            self.page.keyboard.press(str(place + 1))
        else:
            self.tab_to("input[name=choice]")
            self.page.keyboard.press("Space")
            for _ in range(place):
                self.page.keyboard.press("ArrowDown")

    def press(self, selector: str = "main form button") -> None:
        self.tab_to(selector)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def answer(self, name: str) -> None:
        if self.page.locator(f"#{name} [type=text]").count():
            self.write(f"#{name} [type=text]", "1985")
        elif self.page.locator(f"#{name} select").count():
            self.tab_to(f"#{name} select")
            for _ in range(3):
                self.page.keyboard.press("ArrowDown")
        else:
            self.tab_to(f"#{name} input")
            self.page.keyboard.press("Space")

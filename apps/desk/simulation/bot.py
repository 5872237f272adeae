"""One synthetic annotator: opens a recruitment link and goes on until the completion code, through the pages alone."""

import json
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from apps.desk.simulation.browser import Browser, ServerUnreachable
from apps.desk.simulation.pages import Button, Card, Field, Form, Page
from apps.desk.simulation.phrases import Writer, phrases_in
from apps.desk.simulation.policies import POLICIES

PREFER_NOT_TO_SAY = "prefer_not_to_say"
SHARE_PREFER_NOT = 0.07
SHARE_SKIPPED = 0.07
SHARE_SENSITIVE_YES = 0.9
SHARE_END = 0.5
SHARE_OPTIONAL_EXPLAINED = 0.6
YOUNGEST, OLDEST = 18, 80

MAX_REFUSALS = 3
MAX_RETRIES_OF_A_TURN = 2
MAX_STARTS_WITHOUT_WORK = 3
MAX_PAGES = 1000
POLL_SECONDS = 0.3
USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) PolyphonySimulation/1",
    "Mozilla/5.0 (Linux; Android 14; Mobile) PolyphonySimulation/1",
)


class Outcome(StrEnum):
    """How a journey ended."""

    COMPLETED = "completed"
    SCREENED_OUT = "screened out"
    QUOTA_FULL = "quota full"
    LEFT = "left"
    STUCK = "stuck"


class Stuck(Exception):
    """The pages gave no way on; says on which page and why."""


@dataclass(frozen=True)
class SeenTurn:
    """A judged turn as it stood on the page."""

    number: int
    message: str
    cards: tuple[Card, ...]
    chosen: Card
    explanation: str
    seconds: float


@dataclass
class SeenConversation:
    """The judged turns of one conversation; `given_up` where the candidates of its last turn never came."""

    turns: list[SeenTurn] = field(default_factory=list)
    given_up: bool = False


@dataclass
class Journey:
    """Everything one synthetic annotator saw and did. All of it follows from the seed and the pages, except `seconds`."""

    number: int
    tag: str
    outcome: Outcome = Outcome.STUCK
    reason: str = ""
    joined: bool = False
    completion_code: str = ""
    personal_link: str = ""
    visited: list[str] = field(default_factory=list)
    answers: list[dict[str, list[str]]] = field(default_factory=list)
    sensitive_consent: bool | None = None
    conversations: list[SeenConversation] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def turns(self) -> list[SeenTurn]:
        return [turn for conversation in self.conversations for turn in conversation.turns]


class Bot:
    """Walks one journey. `patience` is how many seconds it waits for the candidates of a live turn."""

    def __init__(
        self,
        *,
        link: str,
        tag: str,
        seed: str,
        number: int = 1,
        policy: str = "random",
        patience: float = 180.0,
        stopping: threading.Event | None = None,
    ) -> None:
        self.link, self.patience, self.stopping = link, patience, stopping or threading.Event()
        self.journey = Journey(number=number, tag=tag)
        self._draws = {
            # One stream per subject: the pages' own draws (which practice answer stands first) then move none of the others.
            subject: random.Random(f"{seed}/{subject}")  # noqa: S311  (a repeatable draw, not a secret)
            for subject in ("device", "consent", "answers", "practice", "choice", "words", "end")
        }
        self._writer = Writer(phrases_in(tag), self._draws["words"])
        self._policy = POLICIES[policy]
        self.browser = Browser(language=tag, user_agent=self._draws["device"].choice(USER_AGENTS))
        self._refusals = self._retries = self._starts_without_work = 0
        self._tried: set[str] = set()

    def run(self) -> Journey:
        """Walk until the end, or until stuck; never raises for what the server does."""
        started = time.monotonic()
        try:
            self._walk(self.browser.open(self.link))
        except (Stuck, ServerUnreachable) as problem:
            self.journey.outcome, self.journey.reason = Outcome.STUCK, str(problem)
        self.journey.seconds = time.monotonic() - started
        return self.journey

    def walk_to(self, *names: str) -> Page:
        """Walk until a page of one of these names is open, and leave it untouched. Raises `Stuck` at any other end."""
        page = self.browser.page or self.browser.open(self.link)
        self._walk(page, until=names)
        if self.browser.page is None or self.browser.page.name not in names:
            raise Stuck(f"the journey ended ({self.journey.outcome}) before {' or '.join(names)}")
        return self.browser.page

    # --- One page after the other -----------------------------------------------------------------------------------

    def _walk(self, page: Page, until: tuple[str, ...] = ()) -> None:
        for _ in range(MAX_PAGES):
            if self.stopping.is_set():
                raise Stuck("the simulation was stopped")
            if page.name in until and page.status == 200:
                return
            self.journey.visited.append(page.name)
            self._note_frame(page)
            if page.name in ("done", "ended"):
                self._end(page)
                return
            page = self._step(page)
        raise Stuck(f"still on the way after {MAX_PAGES} pages")

    def _step(self, page: Page) -> Page:
        """Do what the page asks for; the next page."""
        form = page.form
        if page.status == 503 and form is not None:
            return self._start_again(page, form)
        if page.status not in (200, 422, 409):
            raise self._stuck(page)
        if page.status == 200:
            self._refusals = 0
        else:
            self._refusals += 1
            if self._refusals > MAX_REFUSALS:
                raise self._stuck(page)
        if form is None:
            return self._step_without_form(page)
        if form.button("action", "retry"):
            return self._trouble(form)
        if form.button("decision", "yes"):
            return self._sensitive_consent(form)
        if "agreed" in form.fields:
            return self._consent(form)
        if "questionnaire" in form.fields:
            return self._questionnaire(form)
        if "message" in form.fields:
            return self._message(form)
        if form.cards:
            return self._compare(page, form) if "turn" in form.fields else self._practice(form)
        if len(form.buttons) == 1:
            return self._press(form)
        raise self._stuck(page)

    def _step_without_form(self, page: Page) -> Page:
        status = page.attribute("data-status")
        if status:
            return self._wait(page, status)
        offered = next((link for link in page.links if link.endswith(f"locale={self.journey.tag}")), "")
        if offered:
            return self.browser.open(offered)
        if page.name == "paused" or not page.links or "?locale=" in page.links[0]:
            raise self._stuck(page)
        return self.browser.open(page.links[0])

    # --- Each kind of page ------------------------------------------------------------------------------------------

    def _consent(self, form: Form) -> Page:
        page = self.browser.submit(form, {"agreed": ["yes"]}, _first(form))
        self.journey.joined = self.journey.joined or page.status == 200
        return page

    def _sensitive_consent(self, form: Form) -> Page:
        agrees = self._draws["consent"].random() < SHARE_SENSITIVE_YES
        self.journey.sensitive_consent = agrees
        values = {"agreed": ["yes"]} if agrees else {}
        return self.browser.submit(form, values, form.button("decision", "yes" if agrees else "no"))

    def _questionnaire(self, form: Form) -> Page:
        """The first questionnaire asks who may take part: there the first option is the one that may."""
        eligibility = not self.journey.answers
        careful = self._refusals > 0
        answers = {
            item.name: [item.options[0].value] if eligibility and item.options else self._answer(item, careful)
            for item in form.fields.values()
            if item.kind != "hidden"
        }
        page = self.browser.submit(form, answers, _first(form))
        if page.status == 200:
            self.journey.answers.append(answers)
        return page

    def _answer(self, item: Field, careful: bool) -> list[str]:
        """A plausible answer; `careful` after a refusal: no question left open, one option only."""
        rng = self._draws["answers"]
        draw = 1.0 if careful else rng.random()
        given = {option.value for option in item.options}
        if draw < SHARE_SKIPPED:
            return [""] if item.kind in ("text", "select") or item.typed_beside else []
        if draw < SHARE_SKIPPED + SHARE_PREFER_NOT and PREFER_NOT_TO_SAY in given:
            return [PREFER_NOT_TO_SAY]
        if item.kind == "text" or item.typed_beside:
            return [str(date.today().year - rng.randint(YOUNGEST, OLDEST))]
        usual = [option.value for option in item.options if option.value not in ("", PREFER_NOT_TO_SAY)]
        count = 2 if item.kind == "checkbox" and not careful and len(usual) > 2 and rng.random() < 0.2 else 1
        return rng.sample(usual, count)

    def _press(self, form: Form) -> Page:
        """A page that only wants to be read, or the start of a conversation."""
        page = self.browser.submit(form, button=_first(form))
        if page.status == 200 and page.name in ("compare", "message"):
            self._starts_without_work = 0
            self.journey.conversations.append(SeenConversation())
        return page

    def _start_again(self, page: Page, form: Form) -> Page:
        self._starts_without_work += 1
        if self._starts_without_work > MAX_STARTS_WITHOUT_WORK:
            raise self._stuck(page)
        self._pause(1.0)
        return self._press(form)

    def _practice(self, form: Form) -> Page:
        """Somebody who has no idea tries one answer, then the other."""
        untried = [card for card in form.cards if card.text not in self._tried] or list(form.cards)
        card = self._draws["practice"].choice(untried)
        self._tried.add(card.text)
        return self.browser.submit(form, {"choice": [card.value]}, _first(form))

    def _compare(self, page: Page, form: Form) -> Page:
        chosen = self._policy(form.cards, self._draws["choice"])
        values = {"choice": [chosen.value]}
        explanation = ""
        if "explanation" in form.fields:
            minimum = form.fields["explanation"].minimum_words
            if minimum or self._draws["words"].random() < SHARE_OPTIONAL_EXPLAINED:
                other = self._draws["words"].choice([card for card in form.cards if card is not chosen])
                explanation = self._writer.explanation(
                    chosen=chosen.letter, other=other.letter, minimum_words=minimum + 10 * self._refusals
                )
            values["explanation"] = [explanation]
        opened = time.monotonic()
        answer = self.browser.submit(form, values, _first(form))
        if answer.status == 200:
            self._retries = 0
            seen = SeenTurn(
                number=int(form.fields["turn"].value),
                message=_message_of(page),
                cards=form.cards,
                chosen=chosen,
                explanation=explanation,
                seconds=time.monotonic() - opened,
            )
            self.journey.conversations[-1].turns.append(seen)
        return answer

    def _message(self, form: Form) -> Page:
        end = form.button("action", "end")
        if end is not None and self._draws["end"].random() < SHARE_END:
            return self.browser.submit(form, button=end)
        text = self._writer.opening() if form.fields["turn"].value == "1" else self._writer.follow_up()
        return self.browser.submit(form, {"message": [text]}, form.button("action", "send"))

    def _wait(self, page: Page, status_url: str) -> Page:
        """Ask the status address as the page's script does, until it says to go on."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            status, body = self.browser.get_text(status_url)
            try:
                state = json.loads(body)
                if not state["waiting"]:
                    return self.browser.open(state["next"])
            except (ValueError, KeyError, TypeError):
                raise Stuck(f"{status_url} answered HTTP {status} with something that is not its JSON") from None
            self._pause(POLL_SECONDS)
        raise Stuck(f"the answers of a live turn did not come within {self.patience:.0f} s; does a worker run? ({page.url})")

    def _trouble(self, form: Form) -> Page:
        if self._retries < MAX_RETRIES_OF_A_TURN:
            self._retries += 1
            return self.browser.submit(form, button=form.button("action", "retry"))
        self._retries = 0
        self.journey.conversations[-1].given_up = True
        return self.browser.submit(form, button=form.button("action", "give_up"))

    # --- What every page tells --------------------------------------------------------------------------------------

    def _note_frame(self, page: Page) -> None:
        self.journey.personal_link = page.link_to("/resume/") or self.journey.personal_link

    def _end(self, page: Page) -> None:
        if page.name == "done":
            code = page.root.with_class("code")
            self.journey.completion_code = code.text() if code is not None else ""
            if not self.journey.completion_code:
                raise Stuck(f"the last page shows no completion code: {page.text[:200]}")
            self.journey.outcome = Outcome.COMPLETED
        else:
            ends = {"SCREENED_OUT": Outcome.SCREENED_OUT, "QUOTA_FULL": Outcome.QUOTA_FULL}
            self.journey.outcome = ends.get(page.attribute("data-outcome"), Outcome.LEFT)

    def _pause(self, seconds: float) -> None:
        if self.stopping.wait(seconds):
            raise Stuck("the simulation was stopped")

    def _stuck(self, page: Page) -> Stuck:
        said = page.problem or page.heading or page.text[:200]
        return Stuck(f"page “{page.name}” answered HTTP {page.status}: {said}")


def _first(form: Form) -> Button | None:
    return form.buttons[0] if form.buttons else None


def _message_of(page: Page) -> str:
    """The message that the candidates answer: the person's last one above them."""
    bubbles = [node for node in page.root.find_all() if "bubble--person" in node.attributes.get("class", "").split()]
    text = bubbles[-1].with_class("__text") if bubbles else None
    return text.text() if text is not None else ""

"""People at work over real HTTP, each with a ledger of what they sent and of what they were told is saved."""

import asyncio
import hashlib
import json
import random
import re
import threading
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from benchmarks.browser import Answer, Browser, Tally
from tests.faults.servers import wait_for

FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
PATIENCE_SECONDS = 40.0  # of one person with one request
PAUSE_SECONDS = 0.2  # before a request is sent once more
WAIT_SECONDS = 1.0  # before a look whether the answers are written


class GaveUp(Exception):
    """Sent home without a receipt."""


class Surfer(Browser):
    """A browser whose connections are closed as soon as they are of no use."""

    def forget_connection(self) -> None:
        if self._writer is not None:
            self._writer.close()
        super().forget_connection()

    async def _exchange(self, message: bytes) -> Answer:
        try:
            return await super()._exchange(message)
        except BaseException:
            self.forget_connection()
            raise


class Person:
    """Goes from page to page and sends each form until it is acknowledged, always the same form."""

    def __init__(self, name: str, browser: Browser, ledger: TextIO, crowd: "Crowd") -> None:
        self.name, self.browser, self.ledger, self.crowd = name, browser, ledger, crowd
        self.random = random.Random(name)
        self.address = "/task/"

    async def live(self) -> None:
        """Until the work is done or the crowd is told to go home; nobody leaves with a form unacknowledged."""
        while not self.crowd.is_going.is_set() and self.address not in ("/task/done/", "/task/ended/"):
            page = await self.open("/task/")
            await self.act(page)

    async def open(self, address: str) -> str:
        answer = await self.ask("GET", address, {})
        while answer.status == 302:
            address = answer.location
            answer = await self.ask("GET", address, {})
        self.address = address
        return answer.body.decode()

    async def act(self, page: str) -> None:
        form = dict(FIELD.findall(page))
        match self.address:
            case "/task/questions/":
                await self.send(form | {"q_adult": "yes", "q_birth_year": "1985", "q_gender": "woman" if "7" in self.name else "man"})
            case "/task/guideline/":
                await self.send(form)
            case "/task/practice/":
                await self.send(form | {"choice": "0"})
            case "/task/start/":
                await self.send(form, "claim", "")
            case "/task/compare/":
                choice = str(self.random.randrange(4))
                reason = f"{self.name} prefers this one, and the reason is {uuid.uuid4()}."
                form |= {"choice": choice, "explanation": reason, "layout": "column"}
                await self.send(form, "comparison", f"{form['turn']}|{choice}|{reason}")
            case "/task/message/":
                message = f"{self.name} asks again, this time about {uuid.uuid4()}."
                form |= {"message": message, "action": "send"}
                await self.send(form, "message", f"{form['turn']}|{message}")
            case "/task/trouble/":
                await self.send(form | {"action": "retry"})
            case "/task/wait/":
                await asyncio.sleep(WAIT_SECONDS)
            case "/task/done/" | "/task/ended/":
                return
            case unknown:
                raise AssertionError(f"nobody knows what to do at {unknown}")

    async def send(self, form: dict[str, str], kind: str = "", payload: str = "") -> None:
        """Note the form in the ledger, send it until an answer comes that is not about the weather, note the receipt."""
        if kind:
            self.note(sent=form["submission_id"], kind=kind, payload=hashlib.sha256(payload.encode()).hexdigest())
        answer = await self.ask("POST", self.address, form)
        self.crowd.statuses[f"POST {self.address} {answer.status}"] += 1
        if kind and answer.status == 303:
            self.note(saved=form["submission_id"])
            self.crowd.saved += 1
        elif answer.status != 303:
            await asyncio.sleep(PAUSE_SECONDS)

    async def ask(self, method: str, address: str, form: dict[str, str]) -> Answer:
        """One request, sent again on a new connection while there is no answer, or only one that says to try later."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    answer = await (self.browser.get(address) if method == "GET" else self.browser.post(address, form))
            except (OSError, EOFError, ValueError, TimeoutError):
                self.browser.forget_connection()
            else:
                self.crowd.answers[answer.status] += 1
                if answer.status != 503 or b'name="submission_id"' in answer.body:  # the page that has no work is one, too
                    return answer
            if self.crowd.gives_up.is_set():
                raise GaveUp
            await asyncio.sleep(PAUSE_SECONDS)

    def note(self, **entry: str) -> None:
        self.ledger.write(json.dumps(entry) + "\n")
        self.ledger.flush()


class Crowd:
    """All of them in a thread of its own. `saved` counts receipts, `answers` the statuses that people saw."""

    def __init__(self, port: int, sessions: list[str], ledgers: Path) -> None:
        self.port, self.sessions, self.ledgers = port, sessions, ledgers
        self.saved, self.answers, self.statuses = 0, Counter[int](), Counter[str]()
        self.is_going, self.gives_up = threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_for_receipts(self, more: int, seconds: float = 120) -> None:
        """Until that many further receipts have come, or everybody is done."""
        wanted = self.saved + more
        wait_for(lambda: self.saved >= wanted or not self._thread.is_alive(), seconds, f"{more} more receipts; people saw {self.answers}")
        assert self._failure is None, self._failure

    def go_home(self, seconds: float = 120) -> None:
        """Everybody finishes the form in hand and stops."""
        self.is_going.set()
        self._thread.join(seconds)
        assert self._failure is None, self._failure
        assert not self._thread.is_alive(), f"people still wait for a receipt; they saw {self.answers}"

    def give_up(self) -> None:
        """Everybody stops where they are, also without a receipt."""
        self.is_going.set()
        self.gives_up.set()
        self._thread.join(PATIENCE_SECONDS + 5)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception as error:  # told by whoever waits
            self._failure = error

    async def _live(self) -> None:
        tally = Tally()
        await asyncio.gather(*(self._live_one(f"p{number}", session, tally) for number, session in enumerate(self.sessions)))

    async def _live_one(self, name: str, session: str, tally: Tally) -> None:
        with (self.ledgers / f"{name}.jsonl").open("a") as ledger:
            browser = Surfer(self.port, tally, {"sessionid": session})
            with suppress(GaveUp):
                await Person(name, browser, ledger, self).live()
            browser.forget_connection()

/* Enhancement only: every page works without this file. One function per thing it adds; each does nothing where its part is not on the page. */
"use strict";

const byId = (id) => document.getElementById(id);

/* The text that a page brings in a data attribute, with {name} replaced by a localized number. */
function sentence(template, numbers) {
  const format = new Intl.NumberFormat(document.documentElement.lang || undefined);
  return template.replace(/\{(\w+)\}/g, (whole, name) => (name in numbers ? format.format(numbers[name]) : whole));
}

/* Counts as the server does (core.text.count_words): a letter or digit begins a word, marks and apostrophes stay inside it. */
function countWords(text) {
  return (text.match(/[\p{L}\p{N}][\p{L}\p{N}_\u0900-\u097f\u200c\u200d'’-]*/gu) || []).length;
}

/* Pages that tell something about the last step begin there. */
function focusOnNews() {
  const news = document.querySelector(".error-summary, .notice");
  if (news) news.focus();
}

function takesText(element) {
  return element instanceof HTMLElement && element.matches("textarea, select, input:not([type=radio], [type=checkbox])");
}

function isComposing(event) {
  return event.isComposing || event.keyCode === 229; // 229: Safari, just after the composition
}

/* The keys 1 to 6 choose a card. The place on the keyboard counts too: on a French one the digits need Shift. */
function numberKeys() {
  const form = byId("comparison");
  const label = byId("number-keys");
  if (!form || !label) return;
  const radios = form.querySelectorAll("input[name=choice]");
  const wanted = label.querySelector("input");
  const remembered = "polyphony.number-keys";
  try {
    wanted.checked = localStorage.getItem(remembered) !== "off";
  } catch {
    wanted.checked = true; // storage is closed to us: the switch still holds for this page
  }
  wanted.addEventListener("change", () => {
    try {
      localStorage.setItem(remembered, wanted.checked ? "on" : "off");
    } catch {
      return;
    }
  });
  label.hidden = false;
  document.addEventListener("keydown", (event) => {
    if (!wanted.checked || isComposing(event) || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (takesText(event.target)) return;
    const digit = /^[1-6]$/.test(event.key) ? event.key : (/^(?:Digit|Numpad)([1-6])$/.exec(event.code) || [])[1];
    const radio = radios[Number(digit) - 1];
    if (!radio) return;
    event.preventDefault();
    radio.focus();
    radio.click();
  });
}

/* The reason is asked once something is chosen; it stays where words or an error already stand in it. */
function reasonAfterChoice() {
  const reason = byId("reason");
  if (!reason) return;
  const form = reason.closest("form");
  const text = byId("explanation");
  const update = () => {
    reason.hidden = !form.querySelector("input[name=choice]:checked") && !text.value && text.getAttribute("aria-invalid") !== "true";
  };
  form.addEventListener("change", update);
  window.addEventListener("pageshow", update); // the browser may have put back a choice
  update();
}

/* A gentle count; only the moment at which it is enough is also spoken. */
function wordCounter() {
  const counter = byId("counter");
  const text = byId("explanation");
  if (!counter || !text) return;
  const minimum = Number(text.dataset.minimum);
  const { words, wordsMinimum, wordsEnough } = counter.dataset;
  const update = () => {
    const count = countWords(text.value);
    const template = minimum === 0 ? words : count < minimum ? wordsMinimum : wordsEnough;
    counter.textContent = sentence(template, { count, minimum });
    byId("counter-news").textContent = minimum > 0 && count >= minimum ? sentence(wordsEnough, { count: minimum, minimum }) : "";
  };
  text.addEventListener("input", update);
  window.addEventListener("pageshow", update);
  counter.hidden = false;
  update();
}

/* Tells with the answer how the cards really stood. */
function recordLayout() {
  const form = byId("comparison");
  const field = form && form.elements.namedItem("layout");
  if (!field) return;
  form.addEventListener("submit", () => {
    const [first, second] = Array.from(form.querySelectorAll(".card"), (card) => card.getBoundingClientRect());
    field.value = first && second && second.top < first.bottom ? "side_by_side" : "column";
  });
}

/* One press, one request. The server would store a second press only once; this spares the wait for it. */
function sendOnce() {
  const restore = (form) => {
    delete form.dataset.sent;
    form.querySelectorAll("button[data-resting]").forEach((button) => {
      button.disabled = false;
      delete button.dataset.resting;
    });
  };
  for (const form of document.querySelectorAll("form[method=post]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) {
        event.preventDefault();
        return;
      }
      form.dataset.sent = "yes";
      // After this event the browser reads the form, with the pressed button's name and value; only then may the button rest.
      setTimeout(() => {
        form.querySelectorAll("button:not([type=button])").forEach((button) => {
          button.dataset.resting = "yes";
          button.disabled = true;
        });
      });
      setTimeout(restore, 15000, form); // the connection may be gone, and the person wants to try again
    });
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) restore(form);
    });
  }
}

/* Enter that ends a composition never sends; Ctrl or Cmd and Enter send a long text. */
function enterKey() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !takesText(event.target) || !event.target.form) return;
    if (isComposing(event)) {
      if (event.target.matches("input")) event.preventDefault();
    } else if (event.target.matches("textarea") && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.target.form.requestSubmit(event.target.form.querySelector("button[type=submit]"));
    }
  });
}

/* Counts that the first page of a link was seen, and tells the person's time zone with the form. */
function tellOpening() {
  const form = byId("joining");
  if (!form) return;
  form.elements.namedItem("time_zone").value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  const seen = new URLSearchParams();
  for (const name of ["submission_id", "locale"]) seen.set(name, form.elements.namedItem(name).value);
  const headers = { "X-CSRFToken": form.elements.namedItem("csrfmiddlewaretoken").value };
  fetch(form.dataset.opened, { method: "POST", headers, body: seen, keepalive: true }).catch(() => undefined); // a count, nothing more
}

/* Asks twice a second whether the answers are there, after half a minute more rarely, and goes on without leaving this page in the history. */
function waitForAnswers() {
  const waiting = byId("waiting");
  if (!waiting) return;
  const began = Date.now();
  let timer = 0;
  const ask = async () => {
    clearTimeout(timer);
    try {
      const response = await fetch(waiting.dataset.status, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (response.status === 403) {
        location.reload(); // the session is over: the page says what to do
        return;
      }
      if (response.ok) {
        const status = await response.json();
        if (!status.waiting) {
          location.replace(status.next);
          return;
        }
      }
    } catch {
      // Offline for a moment: ask again.
    }
    timer = setTimeout(ask, Date.now() - began < 30000 ? 500 : 5000);
  };
  timer = setTimeout(ask, 500);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
}

focusOnNews();
numberKeys();
reasonAfterChoice();
wordCounter();
recordLayout();
sendOnce();
enterKey();
tellOpening();
waitForAnswers();

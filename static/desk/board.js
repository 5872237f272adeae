/* The board counts again every 15 s while it is seen, and says how old its figures are. The page works without this file. */
"use strict";

const EVERY = 15000;
const figures = document.getElementById("board-figures");
const age = document.getElementById("board-age");
let counted = performance.now();
let asking = false;
let failed = false;

/* A target that is being typed stays: nothing is replaced under somebody's hands. */
function isEdited() {
  const inputs = [...figures.querySelectorAll("input[name=target]")];
  return inputs.some((input) => input === document.activeElement || input.value !== input.defaultValue || input.matches("[aria-invalid]"));
}

/* What the reader has opened, scrolled and focused, by id, so that it can be put back. */
function remember() {
  const opened = [...figures.querySelectorAll("details[open]")].map((part) => part.id);
  const scrolled = [...figures.querySelectorAll(".desk-scroll")].map((part) => [part.id, part.scrollLeft]);
  const focused = figures.contains(document.activeElement) ? document.activeElement.id : "";
  return () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    for (const [id, left] of scrolled) {
      const part = document.getElementById(id);
      if (part) part.scrollLeft = left;
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };
}

async function refresh() {
  if (asking || document.hidden || isEdited()) return;
  asking = true;
  const asked = performance.now();
  try {
    const answer = await fetch(figures.dataset.url, { headers: { Accept: "text/html" }, redirect: "error" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const text = await answer.text();
    if (!isEdited()) {
      const restore = remember();
      figures.innerHTML = text;
      restore();
      counted = asked;
    }
    failed = false;
  } catch {
    failed = true;
  } finally {
    asking = false;
    tell();
  }
}

function tell() {
  const seconds = Math.max(0, Math.round((performance.now() - counted) / 1000));
  const parts = [age.dataset.age.replace("{seconds}", seconds)];
  if (isEdited()) parts.push(age.dataset.paused);
  else if (failed) parts.push(age.dataset.failed);
  age.textContent = parts.join(" ");
}

let last = performance.now();
setInterval(() => {
  if (document.hidden) return;
  tell();
  if (performance.now() - last >= EVERY) {
    last = performance.now();
    refresh();
  }
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && performance.now() - counted >= EVERY) refresh();
});
tell();

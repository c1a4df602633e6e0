"use strict";

/*
 * One pair of answers after the other. The server says what comes next, in answer to every vote; what people and models wrote goes
 * into the page as text and never as markup.
 */
const KEYS = { 1: "left", 2: "right", 3: "tie", 0: "both bad", s: "skip" };
const SAVED = {
  left: "Saved: answer 1 is better.",
  right: "Saved: answer 2 is better.",
  tie: "Saved: a tie.",
  "both bad": "Saved: both are bad.",
  skip: "Skipped.",
};
const part = (id) => document.getElementById(id);
const rater = new URLSearchParams(location.search).get("rater");
const shown = { standing: null, isWaiting: false };

/** Seconds since the pair was shown, without the time in which nobody could see it. */
const clock = {
  seconds: 0,
  since: 0,
  restart() {
    this.seconds = 0;
    this.since = performance.now();
  },
  note() {
    if (document.visibilityState === "hidden") this.seconds = this.read();
    else this.since = performance.now();
  },
  read() {
    return this.seconds + (document.visibilityState === "hidden" ? 0 : (performance.now() - this.since) / 1000);
  },
};

/** What the server answers; an error says in words what is wrong. */
async function ask(path, body) {
  const options = body === undefined
    ? {}
    : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Start the same `fettle vote` command again and open the address it prints.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new Error([answer.problem ?? `The server answers with HTTP ${response.status}`, answer.remedy].filter(Boolean).join(". ") + ".");
}

/** One request at a time: a key that is pressed meanwhile is about a pair that nobody has seen yet. */
async function step(path, body, said) {
  if (shown.isWaiting) return;
  shown.isWaiting = true;
  try {
    show(await ask(path, body), said);
  } catch (error) {
    part("fault").textContent = (body === undefined ? "" : "Not saved. ") + error.message;
    part("fault").hidden = false;
    part("status").textContent = "";
    part("fault").scrollIntoView({ block: "center" });
  } finally {
    shown.isWaiting = false;
  }
}

function show(standing, said) {
  shown.standing = standing;
  const { ballot, num_done: numDone, num_asked: numAsked } = standing;
  part("fault").hidden = true;
  part("who").hidden = part("progress").hidden = part("booth").hidden = false;
  part("rater").textContent = standing.rater;
  part("progress").max = Math.max(numAsked, 1);
  part("progress").value = numDone;
  part("pair").hidden = ballot === null;
  part("end").hidden = ballot !== null;
  for (const button of document.querySelectorAll("[data-choice]")) setUsable(button, ballot !== null);
  setUsable(part("undo"), numDone > 0);
  part("status").textContent = [said, ballot && timeLeft(standing)].filter(Boolean).join(" ");
  if (ballot) showBallot(ballot, `Pair ${numDone + 1} of ${numAsked}`);
  else part("end-text").textContent = `${numDone} of ${numAsked} pairs are done. You can close this page, or take back your latest vote.`;
  part(ballot ? "heading" : "end-heading").focus({ preventScroll: true });
  scrollTo(0, 0);
  clock.restart();
}

function showBallot(ballot, heading) {
  part("heading").textContent = heading;
  showText(part("input"), ballot.input);
  showText(part("left"), ballot.left);
  showText(part("right"), ballot.right);
  part("comment").value = sessionStorage.getItem(draftKey()) ?? "";
}

function showText(place, text) {
  const isEmpty = text.trim() === "";
  place.textContent = isEmpty ? "empty" : text;
  place.classList.toggle("nothing", isEmpty);
  place.classList.toggle("is-json", /^\s*[[{]/.test(text));
}

/** A button that cannot be used keeps the keyboard's focus. */
function setUsable(button, isUsable) {
  button.setAttribute("aria-disabled", String(!isUsable));
}

/** How long the rest takes at this person's pace; nothing before there is a pace. */
function timeLeft({ num_done: numDone, num_asked: numAsked, seconds_per_vote: seconds }) {
  if (numDone < 5) return "";
  const minutes = Math.max(1, Math.ceil(((numAsked - numDone) * seconds) / 60));
  return `About ${minutes} ${minutes === 1 ? "minute" : "minutes"} left.`;
}

/** A comment that is being written outlives a reload, and comes back when its vote is taken back. */
function draftKey() {
  return `comment ${rater} ${shown.standing.ballot.example_id}`;
}

function vote(choice) {
  const ballot = shown.standing?.ballot;
  if (!ballot) return;
  const body = { rater, example_id: ballot.example_id, choice, seconds: Math.min(clock.read(), 86400), comment: part("comment").value };
  step("votes", body, SAVED[choice]);
}

function undo() {
  if (shown.standing?.num_done) step("undo", { rater }, "Taken back.");
}

function onKey(event) {
  const isWriting = event.target.matches("input, textarea");
  if (event.key === "Escape" && isWriting) event.target.blur();
  if (isWriting || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key in KEYS) vote(KEYS[key]);
  else if (key === "u") undo();
  else if (key === "c" && shown.standing?.ballot) part("comment").focus();
  else return;
  event.preventDefault();
}

function begin() {
  if (!rater) {
    part("name").hidden = false;
    part("name").addEventListener("submit", (event) => {
      event.preventDefault();
      location.search = new URLSearchParams({ rater: part("name-text").value.trim() });
    });
    part("name-text").focus();
    return;
  }
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => vote(button.dataset.choice));
  }
  part("undo").addEventListener("click", undo);
  part("comment").addEventListener("input", () => sessionStorage.setItem(draftKey(), part("comment").value));
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => clock.note());
  step("standing?" + new URLSearchParams({ rater }));
}

begin();

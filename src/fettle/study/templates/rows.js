/*
 * The side-by-side view. Rows come from the JSON block of the page and are drawn a few at a time. They hold whatever people and
 * models wrote, so every text goes into the page as a text node and never as markup.
 */
const FIRST_CHUNK = 10;
const CHUNK = 25;
const SHORT_ANSWER = 80;
const LONG_TEXT = 1400;
const LONG_TITLE = 60;
const MARKS = { same: "", differs: "≠", extra: "+", missing: "−" };
const SPOKEN = { differs: "differs: ", extra: "not wanted: ", missing: "missing: " };

function element(name, { className = "", text = "", children = [] } = {}) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

/** The filters and orders on offer, by what the study has: a pair to compare, unscored rows, graded or right-or-wrong scores. */
function filtersFor(study) {
  const filters = [{ title: "All", keep: () => true }];
  if (study.hasPair) {
    const ours = study.contenders[0].isFineTuned ? "Tuned" : "Challenger";
    const both = (row) => row.scores[0] !== null && row.scores[1] !== null;
    filters.push(
      { title: `${ours} wins`, keep: (row) => both(row) && row.scores[0] > row.scores[1] },
      { title: `${ours} loses`, keep: (row) => both(row) && row.scores[0] < row.scores[1] },
      { title: "Disagreements", keep: (row) => !saysTheSame(row.answers[0], row.answers[1], study.kind) },
    );
    if (study.kind === "text") {
      const better = (row) => Math.max(row.scores[0], row.scores[1]);
      const sorted = study.rows.filter(both).map(better).sort((one, other) => one - other);
      const limit = sorted[Math.floor(sorted.length / 4)];
      filters.push({ title: "Both weak (lowest quarter)", keep: (row) => both(row) && better(row) <= limit });
    } else {
      filters.push({ title: "Both wrong", keep: (row) => both(row) && row.scores[0] < 1 && row.scores[1] < 1 });
    }
  }
  if (study.rows.some((row) => row.scores.includes(null))) {
    filters.push({ title: "Not scored", keep: (row) => row.scores.includes(null) });
  }
  return filters;
}

function saysTheSame(one, other, kind) {
  if ((one ?? "").trim() === (other ?? "").trim()) return true;
  const values = kind === "json" ? [one, other].map((text) => parseJson(text ?? "")) : [];
  return values.length > 0 && values.every((value) => value !== undefined) && isSame(...values);
}

function ordersFor(study) {
  const orders = [{ title: "as in the file" }];
  if (study.hasPair) {
    const gain = (row) => (row.scores[0] === null || row.scores[1] === null ? null : row.scores[0] - row.scores[1]);
    orders.push(
      { title: "largest win first", key: (row) => negated(gain(row)) },
      { title: "largest loss first", key: gain },
    );
  }
  orders.push({ title: "lowest score first", key: (row) => row.scores[0] });
  return orders;
}

function negated(value) {
  return value === null ? null : -value;
}

/** Rows by their key, those without one at the end. */
function ordered(rows, key) {
  if (!key) return rows;
  const rank = (row) => key(row) ?? Infinity;
  return [...rows].sort((one, other) => (rank(one) === rank(other) ? 0 : rank(one) - rank(other)));
}

function scoreText(score, study) {
  if (score === null) return "not scored";
  if (study.isMarked) return score === 1 ? "✓ right" : "✗ wrong";
  return study.isPercentage ? (100 * score).toFixed(0) + "\u00a0%" : score.toPrecision(3);
}

/** What somebody said: JSON by lines with differences marked, anything else as it stands; long texts are folded. */
function said(text, wantedJson, study) {
  if (text === null) return [element("p", { className: "said nothing", text: "no answer" })];
  if (text.trim() === "") return [element("p", { className: "said nothing", text: "empty" })];
  const value = study.kind === "json" ? parseJson(text) : undefined;
  if (value !== undefined) return [jsonBlock(value, wantedJson)];
  const block = element("div", { className: "said", children: breakable(text) });
  if (text.length <= LONG_TEXT && text.split("\n").length <= 24) return [block];
  block.classList.add("clipped");
  const unfold = element("button", { className: "unfold", text: "Show all of it" });
  unfold.type = "button";
  unfold.addEventListener("click", () => {
    const isClipped = block.classList.toggle("clipped");
    unfold.textContent = isClipped ? "Show all of it" : "Show less";
  });
  return [block, unfold];
}

/** In place of an answer: why there is none. */
function failed(error) {
  return [element("p", { className: "said nothing", text: `the request failed: ${error}` })];
}

/** Text nodes with a chance to break the line after each underscore, so that long labels break between words. */
function breakable(text) {
  return text.split("_").flatMap((piece, i, pieces) => (
    i < pieces.length - 1 ? [piece + "_", document.createElement("wbr")] : [piece]
  ));
}

function jsonBlock(value, wanted) {
  const lines = jsonLines(value, wanted).map(({ state, text }) => {
    const mark = element("span", { className: "mark", text: MARKS[state] });
    mark.setAttribute("aria-hidden", "true");
    const spoken = state === "same" ? [] : [element("span", { className: "hidden", text: SPOKEN[state] })];
    const body = element("span", { className: "text", children: [...spoken, text] });
    return element("div", { className: "line " + state, children: [mark, body] });
  });
  return element("div", { className: "said json", children: lines });
}

/** A contender's title; a very long one is cut to a few lines, whole when pointed at. */
function titleElement(title) {
  const made = element("span", { className: title.length > LONG_TITLE ? "clamped long" : "clamped", text: title });
  made.title = title;
  return made;
}

/** The passages that an answer was given with, folded; what it names is marked. Nothing for contenders that are shown none. */
function passagesShown(passages, study) {
  if (passages.length === 0) return [];
  const cited = passages.filter(({ isCited }) => isCited).length;
  const items = passages.map(({ id, isCited }) => {
    const passage = study.passages[id];
    const title = element("b", { text: passage.title });
    const named = isCited ? [element("span", { className: "tag", text: "named" })] : [];
    const text = element("div", { className: "said", text: passage.text });
    return element("li", { children: [title, ` ${passage.source === passage.title ? "" : passage.source} `, ...named, text] });
  });
  const summary = element("summary", { text: `${passages.length} passages shown${cited ? `, ${cited} named` : ""}` });
  return [element("details", { className: "passages", children: [summary, element("ol", { children: items })] })];
}

function part(title, content, { score = "", className = "" } = {}) {
  const heading = [titleElement(title)];
  if (score) heading.push(element("span", { className: "score", text: score }));
  return element("div", {
    className: "part " + className,
    children: [element("div", { className: "title", children: heading }), ...content],
  });
}

function rowElement(row, study, shown) {
  const wantedJson = study.kind === "json" ? parseJson(row.wanted) : undefined;
  const texts = [row.wanted, ...row.answers];
  const isShort = study.kind !== "json" && texts.every((text) => (text ?? "").length <= SHORT_ANSWER && !text?.includes("\n"));
  const answers = study.contenders.flatMap((contender, i) => (shown[i]
    ? [part(contender.title, [
      ...(row.errors[i] === null ? said(row.answers[i], wantedJson, study) : failed(row.errors[i])),
      ...passagesShown(row.passages[i], study),
    ], {
      score: scoreText(row.scores[i], study),
      className: (contender.isAccented ? "accented" : "") + (study.isMarked && row.scores[i] === 1 ? " is-right" : ""),
    })]
    : []));
  const heading = element("h3", { children: [element("b", { text: `${row.number}` }), `${row.id} · ${row.source}`] });
  const input = part("Input", said(row.input, undefined, { kind: "text" }), { className: "input" });
  const wanted = part("Wanted", said(row.wanted, undefined, study));
  const body = isShort
    ? [element("div", { className: "asked", children: [input, wanted] }), element("div", { className: "answers", children: answers })]
    : [input, element("div", { className: "texts", children: [wanted, ...answers] })];
  return element("article", { className: isShort ? "row short" : "row", children: [heading, ...body] });
}

/** The row's whole text in lower case, for the search; made once. */
function haystack(row) {
  row.haystack ??= [row.id, row.source, row.input, row.wanted, ...row.answers, ...row.errors].join("\n").toLowerCase();
  return row.haystack;
}

function choiceButtons(filters, onChoice) {
  const group = element("div", { className: "choices" });
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Which rows");
  const buttons = filters.map((filter, i) => {
    const button = element("button", { text: `${filter.title} ${filter.count}` });
    button.type = "button";
    button.setAttribute("aria-pressed", String(i === 0));
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      onChoice(filter);
    });
    return button;
  });
  group.append(...buttons);
  return group;
}

function finders(orders, onSearch, onOrder) {
  const search = element("input");
  search.type = "search";
  search.addEventListener("input", () => onSearch(search.value.trim().toLowerCase()));
  const order = element("select", { children: orders.map(({ title }) => element("option", { text: title })) });
  order.addEventListener("change", () => onOrder(orders[order.selectedIndex]));
  return element("div", {
    className: "finders",
    children: [
      element("label", { className: "search", children: ["Search", search] }),
      element("label", { children: ["Order", order] }),
    ],
  });
}

function contenderChecks(study, shown, onChange) {
  const checks = study.contenders.map((contender, i) => {
    const box = element("input");
    box.type = "checkbox";
    box.checked = shown[i];
    box.addEventListener("change", () => {
      shown[i] = box.checked;
      onChange();
    });
    return element("label", { children: [box, titleElement(contender.title)] });
  });
  return element("fieldset", { className: "shown", children: [element("legend", { text: "Answers of" }), ...checks] });
}

function showRows() {
  const study = JSON.parse(document.getElementById("rows-json").textContent);
  const [controls, status, list, more] = ["controls", "status", "list", "more"].map((id) => document.getElementById("rows-" + id));
  study.rows.forEach((row, i) => { row.number = i + 1; });
  const filters = filtersFor(study).map((filter) => ({ ...filter, count: study.rows.filter(filter.keep).length }));
  const orders = ordersFor(study);
  const shown = study.contenders.map((_, i) => study.kind === "labels" || !study.hasPair || i < 2);
  const view = { filter: filters[0], order: orders[0], needle: "", rows: [], numDrawn: 0 };

  function drawMore() {
    const next = view.rows.slice(view.numDrawn, view.numDrawn + (view.numDrawn ? CHUNK : FIRST_CHUNK));
    list.append(...next.map((row) => rowElement(row, study, shown)));
    view.numDrawn += next.length;
    const numLeft = view.rows.length - view.numDrawn;
    status.textContent = `${view.rows.length} of ${study.rows.length} test rows`
      + (numLeft ? `, the first ${view.numDrawn} shown` : "");
    more.hidden = numLeft === 0;
    more.textContent = `Show ${Math.min(CHUNK, numLeft)} more of ${numLeft} left`;
  }
  function redraw() {
    const found = study.rows.filter((row) => view.filter.keep(row) && haystack(row).includes(view.needle));
    view.rows = ordered(found, view.order.key);
    view.numDrawn = 0;
    list.replaceChildren();
    drawMore();
  }

  controls.append(
    choiceButtons(filters, (filter) => { view.filter = filter; redraw(); }),
    finders(orders, (needle) => { view.needle = needle; redraw(); }, (order) => { view.order = order; redraw(); }),
  );
  if (study.contenders.length > 1) controls.append(contenderChecks(study, shown, redraw));
  more.addEventListener("click", () => {
    const first = list.children.length;
    drawMore();
    const heading = list.children[first]?.querySelector("h3");
    if (heading) {
      heading.tabIndex = -1;
      heading.focus({ preventScroll: true });
    }
  });
  redraw();
}

showRows();

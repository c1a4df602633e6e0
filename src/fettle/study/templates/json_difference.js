const MAX_DEPTH = 40;

/** The value in a JSON object or list as text; undefined where the text is something else, or nested beyond reading. */
function parseJson(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && isShallow(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isShallow(value, depth = 0) {
  if (value === null || typeof value !== "object") return true;
  return depth < MAX_DEPTH && Object.values(value).every((child) => isShallow(child, depth + 1));
}

/** Whether two JSON values are the same, in whatever order their fields come. */
function isSame(one, other) {
  if (one === null || other === null || typeof one !== "object" || typeof other !== "object") return one === other;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length
    && names.every((name) => Object.hasOwn(other, name) && isSame(one[name], other[name]));
}

/**
 * The lines of pretty-printed JSON, each with its state beside the wanted value: "same", "differs", "extra" or "missing".
 * Without a wanted value (undefined) every line is "same".
 */
function jsonLines(value, wanted, { name = "", depth = 0, comma = "", state = "same" } = {}) {
  const indent = "  ".repeat(depth);
  const isNested = value !== null && typeof value === "object" && Object.keys(value).length > 0;
  if (!isNested) return [{ state, text: indent + name + JSON.stringify(value) + comma }];
  const isList = Array.isArray(value);
  const counterpart = wanted !== null && typeof wanted === "object" && Array.isArray(wanted) === isList ? wanted : undefined;
  const lines = [{ state, text: indent + name + (isList ? "[" : "{") }];
  const names = Object.keys(value);
  names.forEach((key, place) => {
    lines.push(...jsonLines(value[key], counterpart?.[key], {
      name: isList ? "" : JSON.stringify(key) + ": ",
      depth: depth + 1,
      comma: place < names.length - 1 ? "," : "",
      state: childState(state, counterpart, key, value[key]),
    }));
  });
  for (const key of counterpart && state === "same" ? Object.keys(counterpart) : []) {
    if (Object.hasOwn(value, key)) continue;
    const label = isList ? "" : JSON.stringify(key) + ": ";
    lines.push({ state: "missing", text: indent + "  " + label + JSON.stringify(counterpart[key]) });
  }
  lines.push({ state, text: indent + (isList ? "]" : "}") + comma });
  return lines;
}

/** The state of a field: that of its parent, unless the parent has a counterpart to compare the field with. */
function childState(parentState, counterpart, key, value) {
  if (parentState !== "same" || counterpart === undefined) return parentState;
  if (!Object.hasOwn(counterpart, key)) return "extra";
  const wanted = counterpart[key];
  const bothNested = [value, wanted].every((one) => one !== null && typeof one === "object")
    && Array.isArray(value) === Array.isArray(wanted);
  return bothNested || isSame(value, wanted) ? "same" : "differs";
}

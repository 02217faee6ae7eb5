// SPDX-License-Identifier: GPL-2.0-only
//
// What is shown: the window, filters, colours. It is the link's text too.

const COLOURS = ["access", "kind", "fate", "page size", "thread", "process", "program", "symbol", "caller", "duration"];
const TOP_OTHERS = 8;
const SORTS = ["address", "faults", "name"];
/** Upper limits of the durations of a colour, in nanoseconds; the last has none. */
const DURATIONS = [500, 1e3, 2e3, 5e3, 2e4, 1e5, 1e6, Infinity];
const UNKNOWN_DURATION = DURATIONS.length;
/** Upper limits of the page sizes of a colour, in bytes, and what it calls them. */
const PAGE_SIZES = [
  [2 ** 12, "4 KiB"],
  [2 ** 14, "8 and 16 KiB"],
  [2 ** 16, "32 and 64 KiB"],
  [2 ** 18, "128 and 256 KiB"],
  [2 ** 20, "512 KiB and 1 MiB"],
  [2 ** 21, "2 MiB"],
  [2 ** 29, "4 to 512 MiB"],
  [Infinity, "from 1 GiB"],
];

function freshState() {
  return {
    t0: 0,
    t1: M.span + 1,
    /** Pages shown of each panel that is zoomed: [from, to]. */
    y: new Map(),
    folded: new Set(),
    hidden: new Set(),
    colour: "access",
    /** Switched off, of each colour: names. */
    off: new Map(),
    process: "",
    thread: "",
    mapping: "",
    text: "",
    clock: "start",
    /** How panels are sorted. */
    sort: "address",
  };
}

let S = freshState();
let dark = matchMedia("(prefers-color-scheme: dark)").matches;

/** The state as the text behind `#`. */
function stateText() {
  const parts = new URLSearchParams();
  const fresh = freshState();
  if (S.t0 !== fresh.t0 || S.t1 !== fresh.t1) parts.set("t", `${+S.t0.toFixed(2)}~${+S.t1.toFixed(2)}`);
  if (S.y.size) parts.set("y", [...S.y].map(([p, [a, b]]) => `${p}~${+a.toFixed(2)}~${+b.toFixed(2)}`).join("_"));
  if (S.folded.size) parts.set("fold", [...S.folded].join("_"));
  if (S.hidden.size) parts.set("hide", [...S.hidden].join("_"));
  for (const key of ["colour", "process", "thread", "mapping", "text", "clock", "sort"]) {
    if (S[key] !== fresh[key]) parts.set(key, S[key]);
  }
  for (const [colour, names] of S.off) {
    if (names.size) parts.set("off-" + colour, [...names].map(encodeURIComponent).join("~"));
  }
  return parts.toString();
}

/** Takes over a text behind `#`; what makes no sense in it is left out. */
function restore(text) {
  const parts = new URLSearchParams(text);
  S = freshState();
  const numbers = (value) => (value ?? "").split("~").map(Number);
  const [t0, t1] = numbers(parts.get("t"));
  if (t1 > t0 && t0 >= 0 && t0 < M.span + 1) [S.t0, S.t1] = [t0, Math.min(t1, M.span + 1)];
  const isPanel = (p) => Number.isInteger(p) && p >= 0 && p < PANELS;
  for (const entry of (parts.get("y") ?? "").split("_")) {
    const [panel, from, to] = numbers(entry);
    if (isPanel(panel) && from >= 0 && to > from && to <= M.panels[panel].pages) S.y.set(panel, [from, to]);
  }
  for (const [key, set] of [["fold", S.folded], ["hide", S.hidden]]) {
    for (const panel of (parts.get(key) ?? "").split("_")) {
      if (panel !== "" && isPanel(+panel)) set.add(+panel);
    }
  }
  if (COLOURS.includes(parts.get("colour")) && hasColour(parts.get("colour"))) S.colour = parts.get("colour");
  if (parts.get("clock") === "wall") S.clock = "wall";
  if (SORTS.includes(parts.get("sort"))) S.sort = parts.get("sort");
  for (const key of ["process", "thread", "mapping", "text"]) S[key] = parts.get(key) ?? "";
  for (const colour of COLOURS) {
    const names = parts.get("off-" + colour);
    // A link that was cut has escapes that are none.
    try {
      if (names) S.off.set(colour, new Set(names.split("~").map(decodeURIComponent)));
    } catch (error) {
      if (!(error instanceof URIError)) throw error;
    }
  }
}

let linkTimer = 0;
/** Keeps the state in the link, as a step of the browser's own back and forward. */
function keepState() {
  clearTimeout(linkTimer);
  linkTimer = setTimeout(() => {
    const text = stateText();
    if (text !== location.hash.slice(1)) history.pushState(null, "", "#" + text);
  }, 250);
}

// ---- what passes the filters, and its colour

/** Bit 0: passes the filters. Bit 1: matches the text, or there is none. */
const clsMask = new Uint8Array(CLASSES);
let threadMask = new Uint8Array(M.threads).fill(3);
let someThreadsOff = false;
/** Whether marks must tell threads apart. */
let needsThreads = false;
let codeMask = null;
/** The category of a class, and of a thread. */
const clsCategory = new Uint8Array(CLASSES);
let threadCategory = new Uint8Array(M.threads);
/** [name, label, [light, dark], switch's key] of the categories. */
let categories = [];
/** Whether single faults are needed to tell what passes. */
let needsRaw = false;
/** Whether that is for the filters, not for the colour alone. */
let filtersNeedRaw = false;
/** Codes that the legends of symbols and callers switch off, and whether those not known are. */
let codeOff = null;
let unknownCodeOff = false;
/** The category of a code. */
let codeCategory = null;
/** Rises when what passes changes. */
let masksVersion = 0;
let durationOff = new Uint8Array(UNKNOWN_DURATION + 1);

function durationCategory(ns) {
  if (!(ns >= 0)) return UNKNOWN_DURATION;
  let bucket = 0;
  while (ns >= DURATIONS[bucket]) bucket++;
  return bucket;
}
function pageSizeCategory(bytes) {
  if (bytes === null) return PAGE_SIZES.length;
  return PAGE_SIZES.findIndex(([limit]) => bytes <= limit);
}
const pageSizeKey = (bytes) => PAGE_SIZES[pageSizeCategory(bytes)]?.[1] ?? "not known";
/** Categories of the heads of durations (see encode.rs). */
const headCategory = new Uint8Array(1024).map((_, head) =>
  head === 0 ? UNKNOWN_DURATION : durationCategory(headValue(head) * 1.04),
);

const isOfClass = (colour) => colour === "access" || colour === "kind" || colour === "fate" || colour === "page size";
const isOfCode = (colour) => colour === "symbol" || colour === "caller";
/** Whether the trace knows what a colour shows. */
function hasColour(colour) {
  if (colour === "duration") return M.durations;
  if (colour === "page size") return M.classes.some((entry) => entry[6] !== null);
  // Marks do not tell code: where the single faults were left out, nothing does.
  if (isOfCode(colour)) return M.raw.length > 0 && (colour === "symbol" ? M.codes : M.callers);
  return true;
}
const isOfThreads = (colour) => colour === "thread" || colour === "process" || colour === "program";
const isOff = (colour, name) => S.off.get(colour)?.has(name) ?? false;

const programs = () => {
  // By process: the last program it executed.
  const of = new Map();
  for (const [, what, pid, , name] of T.events) if (what === "exec" && name >= 0) of.set(pid, name);
  return of;
};

/** Of threads: the key and label of their process, program or themselves. */
function threadKeys(colour) {
  if (colour === "thread") {
    return T.threads.map((entry, index) => [`${entry[0]}.${entry[1]}`, index]);
  }
  if (colour === "process") return T.threads.map((entry, index) => [`${entry[0]}`, index]);
  const of = programs();
  return T.threads.map(([pid, , process]) => {
    const name = of.get(pid) ?? process;
    return [nameOf(name) ?? "unknown", -1];
  });
}

function keyLabel(colour, key, index) {
  if (colour === "program" || isOfCode(colour)) return key;
  if (colour === "thread") return threadText(index);
  const [pid, , process] = T.threads[index];
  return `${nameOf(process) ?? "process"} ${pid}`;
}

/** What stands at a fault's instruction pointer; null: not known. */
const symbolText = (code) => nameOf(T.codes[code][0]) ?? nameOf(T.codes[code][1])?.split("/").pop() ?? null;

/** Who called it; null: not known. */
function callerText(code) {
  const caller = T.codes[code][3];
  if (caller >= 0) return nameOf(T.frames[caller][0]);
  return caller === -2 ? "cut off" : "no caller";
}

/** Of codes: the key of their symbol, or their nearest caller. */
function codeKeys(colour) {
  const text = colour === "symbol" ? symbolText : callerText;
  return T.codes.map((_, code) => [text(code), -1]);
}

/** The keys with the most faults; the others share a category. */
function byFaults(colour) {
  const ofCode = isOfCode(colour);
  const keys = ofCode ? codeKeys(colour) : threadKeys(colour);
  const sums = new Map();
  keys.forEach(([key, index], at) => {
    if (key === null) return;
    const entry = sums.get(key) ?? [0, index];
    entry[0] += ofCode ? T.codes[at][2] : T.threads[at][4];
    sums.set(key, entry);
  });
  const top = [...sums].sort((a, b) => b[1][0] - a[1][0]).slice(0, TOP_OTHERS);
  return { keys, top, others: sums.size - top.length };
}

function matchesNumberOrText(filter, number, ...texts) {
  if (/^\d+$/.test(filter)) return String(number) === filter;
  const low = filter.toLowerCase();
  return texts.some((text) => text !== null && text.toLowerCase().includes(low));
}

/** Brings masks and categories up to date with the state. */
function updateMasks() {
  const text = S.text.trim().toLowerCase();
  const mapping = S.mapping.trim().toLowerCase();
  const process = S.process.trim();
  const thread = S.thread.trim();
  const colour = S.colour;
  M.classes.forEach(([panel, name, kind, access, fate, , pageBytes], index) => {
    const label = (mappingOf(name) ?? "unknown mapping").toLowerCase();
    const panelLabel = printable(M.panels[panel].label).toLowerCase();
    const on =
      !S.hidden.has(panel) &&
      !isOff("kind", M.kinds[kind]) &&
      !isOff("access", M.accesses[access]) &&
      !isOff("fate", M.fates[fate]) &&
      !isOff("page size", pageSizeKey(pageBytes)) &&
      (mapping === "" || label.includes(mapping) || panelLabel.includes(mapping));
    const found = text === "" || label.includes(text) || M.kinds[kind].includes(text);
    clsMask[index] = (on ? 1 : 0) | (found ? 2 : 0);
    clsCategory[index] = { kind, access, fate, "page size": pageSizeCategory(pageBytes) }[colour] ?? 0;
  });
  if (threadMask.length !== M.threads) threadMask = new Uint8Array(M.threads);
  threadMask.fill(3);
  if (tablesRead) {
    const offKeys = ["thread", "process", "program"].filter((c) => S.off.get(c)?.size);
    const programOf = process === "" ? new Map() : programs();
    const offMaps = offKeys.map((c) => offOf(c));
    T.threads.forEach(([pid, tid, p, t], index) => {
      const names = [nameOf(p), nameOf(t)];
      const on =
        (process === "" || matchesNumberOrText(process, pid, names[0], nameOf(programOf.get(pid) ?? -1))) &&
        (thread === "" || matchesNumberOrText(thread, tid, names[1])) &&
        !offMaps.some((map) => map[index]);
      const found = text === "" || matchesNumberOrText(text, pid, ...names) || String(tid) === text;
      threadMask[index] = (on ? 1 : 0) | (found ? 2 : 0);
    });
  }
  needsThreads = text !== "" || process !== "" || thread !== "" || [colour, ...S.off.keys()].some((c) => isOfThreads(c));
  someThreadsOff = threadMask.some((mask) => mask !== 3);
  const offCodes = tablesRead && M.raw.length ? ["symbol", "caller"].filter((c) => S.off.get(c)?.size) : [];
  codeOff = null;
  for (const colour of offCodes) {
    const off = offOf(colour);
    codeOff = codeOff === null ? off : off.map((value, code) => value | codeOff[code]);
  }
  unknownCodeOff = offCodes.some((colour) => isOff(colour, "others"));
  codeMask = null;
  if (text !== "" && M.raw.length) {
    let any = false;
    const mask = Uint8Array.from(T.codes, ([symbol, object], code) => {
      const names = [symbol, object].map((name) => nameOf(name) ?? "").concat(callersOf(code));
      const hit = names.some((name) => name.toLowerCase().includes(text));
      any ||= hit;
      return hit ? 2 : 0;
    });
    if (any) codeMask = mask;
  }
  durationOff = durationOff.map((_, bucket) => (isOff("duration", String(bucket)) ? 1 : 0));
  filtersNeedRaw = M.raw.length > 0 && (codeMask !== null || codeOff !== null || durationOff.some((off) => off));
  needsRaw = filtersNeedRaw || (M.raw.length > 0 && tablesRead && isOfCode(colour));
  updateCategories();
}

/** The threads, or the codes, that are switched off by a colour's legend. */
function offOf(colour) {
  const { keys, top } = byFaults(colour);
  const isTop = new Set(top.map(([key]) => key));
  const off = S.off.get(colour);
  return Uint8Array.from(keys, ([key]) => (off.has(isTop.has(key) ? key : "others") ? 1 : 0));
}

function updateCategories() {
  const colour = S.colour;
  const list = { kind: M.kinds, access: M.accesses, fate: M.fates }[colour];
  codeCategory = null;
  if (list) {
    categories = list.map((name, index) => ({ key: name, label: name, colour: M.colours[colour][index] }));
  } else if (colour === "duration") {
    categories = DURATIONS.map((limit, index) => ({
      key: String(index),
      label: limit === Infinity ? `from ${shortTime(DURATIONS[index - 1])}` : `below ${shortTime(limit)}`,
      colour: M.colours.duration[index],
    }));
    categories.push({ key: String(UNKNOWN_DURATION), label: "not known", colour: M.colours.duration[UNKNOWN_DURATION] });
  } else if (colour === "page size") {
    categories = PAGE_SIZES.map(([, label], index) => ({ key: label, label, colour: M.colours.other[index] }));
    categories.push({ key: "not known", label: "not known", colour: M.colours.other[PAGE_SIZES.length] });
  } else {
    const { keys, top, others } = byFaults(colour);
    const index = new Map(top.map(([key], at) => [key, at]));
    const of = (length) =>
      Uint8Array.from({ length }, (_, at) => (at < keys.length ? (index.get(keys[at][0]) ?? TOP_OTHERS) : TOP_OTHERS));
    if (isOfCode(colour)) codeCategory = of(T.codes.length);
    else threadCategory = of(M.threads);
    // Faults whose code is not known are among the others.
    const unknown = isOfCode(colour) && (M.codesUnknown > 0 || keys.some(([key]) => key === null));
    const rest = [others > 0 || !unknown ? `${grouped(others)} others` : "", unknown ? "not known" : ""];
    categories = Array.from({ length: TOP_OTHERS + 1 }, (_, at) => ({
      key: at < top.length ? top[at][0] : "others",
      label: at < top.length ? keyLabel(colour, top[at][0], top[at][1][1]) : rest.filter(Boolean).join(", and "),
      colour: M.colours.other[at],
      unused: at < TOP_OTHERS ? at >= top.length : others === 0 && !unknown,
    }));
  }
}

/** What decides whether faults pass, as it is now. */
const masksNow = () => ({ cls: clsMask, thread: threadMask, code: codeMask, codeOff, unknownCodeOff, duration: durationOff });

/** Whether a raw fault passes all filters. */
function passes(points, i, masks = masksNow()) {
  const a = masks.cls[points.cls[i]];
  const b = masks.thread[points.thread[i]];
  if (!(a & b & 1)) return false;
  if (!((a | b) & 2)) {
    const code = points.code ? points.code[i] : NO_CODE;
    if (masks.code === null || code === NO_CODE || !masks.code[code]) return false;
  }
  if (masks.codeOff !== null) {
    const code = points.code ? points.code[i] : NO_CODE;
    if (code === NO_CODE ? masks.unknownCodeOff : masks.codeOff[code]) return false;
  }
  return !masks.duration[points.duration ? durationCategory(points.duration[i]) : UNKNOWN_DURATION];
}

/** What would decide, were nothing of a colour's legend switched off. */
function masksWithout(colour) {
  const off = S.off.get(colour);
  S.off.delete(colour);
  updateMasks();
  const masks = {
    cls: clsMask.slice(),
    thread: threadMask.slice(),
    code: codeMask,
    codeOff,
    unknownCodeOff,
    duration: durationOff.slice(),
    needsThreads: needsThreads || isOfThreads(colour),
    needsRaw: needsRaw || colour === "duration" || isOfCode(colour),
  };
  if (off) S.off.set(colour, off);
  updateMasks();
  return masks;
}

/** The category of a point by its code. */
function codeCategoryOf(points, i) {
  const code = points.code && codeCategory !== null ? points.code[i] : NO_CODE;
  return code === NO_CODE ? TOP_OTHERS : (codeCategory[code] ?? TOP_OTHERS);
}

/** The category of a point. */
function categoryOf(points, i) {
  if (S.colour === "duration") {
    if (points.duration) return durationCategory(points.duration[i]);
    return points.head ? headCategory[points.head[i]] : UNKNOWN_DURATION;
  }
  if (isOfClass(S.colour)) return clsCategory[points.cls[i]];
  if (isOfCode(S.colour)) return codeCategoryOf(points, i);
  return threadCategory[points.thread[i]];
}

// SPDX-License-Identifier: GPL-2.0-only
//
// Beside the picture: facts, legend, filters, panels, the summary of a box; the bubble of the pointer; the help.

const TOP_ROWS_SHOWN = 6;

const stage = make("main", { id: "stage", tabIndex: 0, role: "application", "aria-label": "Page faults: time to the right, addresses upwards. Press ? for help." });
const side = make("aside", { id: "side" });
const bubble = make("div", { id: "bubble", role: "status" });
const help = make("dialog", { id: "help" });
const progressText = make("p", { id: "progress", role: "status" });
const legend = make("ul", { id: "legend" });
const colourSelect = make("select", { id: "colour" });
const summary = make("section", { id: "summary", role: "status" });
const panelList = make("ul", { id: "panels" });
const filters = {};

function say(text) {
  progressText.textContent = text;
}

function fail(error) {
  say("");
  const text = `The picture cannot be drawn: ${error.message ?? error}`;
  document.getElementById("failure")?.remove();
  side.prepend(make("p", { id: "failure", textContent: text }));
  // For whoever looks for the cause.
  console.error(error);
}

function buildSide() {
  const facts = [counted(M.faults, "fault"), shortTime(M.span * M.step), printable(M.host), printable(M.kernel)];
  const lost =
    M.lost === null ? "losses not known: the recording did not end" : M.lost === 0 ? "no fault lost" : `${counted(M.lost, "fault")} lost`;
  side.append(
    make("h1", { textContent: shortened(printable(M.command || "page faults"), 160), title: printable(M.command) }),
    make("p", { class: "facts", textContent: facts.filter(Boolean).join(" · ") }),
    make("p", { class: M.lost ? "lost" : "facts", textContent: lost }),
  );
  if (M.dropped.length) {
    side.append(make("p", { class: "lost", textContent: `Left out to save space (--max-size): ${M.dropped.join("; ")}.` }));
  }
  if (M.leftOut) {
    side.append(make("p", { class: "lost", textContent: `${grouped(M.leftOut)} further events are not shown.` }));
  }
  side.append(progressText);
  if (M.trends.length) {
    const rows = M.trends.map((trend) => {
      const [text, detail, , , mapping] = trend;
      const place = make("button", { type: "button", textContent: printable(text), title: `${printable(detail)}${mapping === null ? "" : `\nin ${printable(mapping)}`}` });
      place.onclick = () => showTrend(trend);
      return make("li", {}, place);
    });
    side.append(make("details", { id: "trends", open: true }, make("summary", { textContent: "trends" }), make("ol", {}, ...rows)));
  }
  for (const colour of COLOURS) {
    if (!hasColour(colour)) continue;
    colourSelect.append(make("option", { value: colour, textContent: colour }));
  }
  colourSelect.onchange = () => {
    S.colour = colourSelect.value;
    changed(true);
  };
  side.append(make("label", { class: "row" }, "colour by ", colourSelect), legend);
  const form = make("div", { id: "filters" });
  for (const [key, hint] of [
    ["process", "name, program or pid"],
    ["thread", "name or tid"],
    ["mapping", "name"],
    ["text", "any name or symbol"],
  ]) {
    const field = make("input", { id: "filter-" + key, type: "search", placeholder: hint, autocomplete: "off", spellcheck: false });
    field.oninput = () => {
      S[key] = field.value;
      changed(true);
    };
    filters[key] = field;
    form.append(make("label", { class: "row" }, key, field));
  }
  const clock = make("select", { id: "clock" });
  clock.append(make("option", { value: "start", textContent: "since start" }), make("option", { value: "wall", textContent: "wall clock, UTC" }));
  clock.onchange = () => {
    S.clock = clock.value;
    changed();
  };
  filters.clock = clock;
  form.append(make("label", { class: "row" }, "time", clock));
  const sort = make("select", { id: "sort" });
  for (const key of SORTS) sort.append(make("option", { value: key, textContent: key }));
  sort.onchange = () => {
    S.sort = sort.value;
    syncSide();
    changed();
  };
  filters.sort = sort;
  const panels = make("details", {}, make("summary", { textContent: "panels" }), make("label", { class: "row" }, "sort by", sort), panelList);
  const button = (text, title, action) => {
    const element = make("button", { type: "button", textContent: text, title });
    element.onclick = action;
    return element;
  };
  side.append(
    form,
    make("div", { class: "row buttons" },
      button("all", "Show everything (0)", () => act("Home")),
      button("back", "Back (Backspace)", () => history.back()),
      button("light/dark", "Light or dark (d)", toggleDark),
      button("help", "Help (?)", toggleHelp)),
    summary,
    panels,
  );
}

function syncSide() {
  colourSelect.value = S.colour;
  for (const key of ["process", "thread", "mapping", "text", "clock", "sort"]) {
    if (filters[key].value !== S[key]) filters[key].value = S[key];
  }
  panelList.replaceChildren(
    ...sortedPanels().map((panel) => {
      const { label, faults } = M.panels[panel];
      const box = make("input", { type: "checkbox", checked: !S.hidden.has(panel) });
      box.onchange = () => {
        if (box.checked) S.hidden.delete(panel);
        else S.hidden.add(panel);
        changed(true);
      };
      const only = make("button", { type: "button", textContent: "only", title: "Show this panel alone" });
      only.onclick = () => showOnly(panel);
      const row = make("label", {}, box, shortened(printable(label), 26));
      return make("li", {}, row, make("span", { class: "count", textContent: grouped(faults) }), only);
    }),
  );
}

/** Jumps to the time of a trend, and shows the faults of its mapping alone. */
function showTrend([, , from, to, mapping]) {
  [S.t0, S.t1] = [from, Math.max(to, from) + 1];
  S.y.clear();
  for (const key of ["process", "thread", "text"]) S[key] = "";
  S.mapping = mapping ?? "";
  syncSide();
  changed(true);
}

function showOnly(panel) {
  const isAlone = S.hidden.size === PANELS - 1 && !S.hidden.has(panel);
  S.hidden = new Set(isAlone ? [] : M.panels.map((_, other) => other).filter((other) => other !== panel));
  S.folded.delete(panel);
  syncSide();
  changed(true);
}

function toggleCategory(at) {
  const category = categories[at];
  if (!category || category.unused) return;
  const off = S.off.get(S.colour) ?? new Set();
  if (!off.delete(category.key)) off.add(category.key);
  if (off.size) S.off.set(S.colour, off);
  else S.off.delete(S.colour);
  changed(true);
}

let legendRun = 0;
let legendCounts = null;

/** Counts anew, and shows the legend. */
async function refreshLegend() {
  const mine = ++legendRun;
  const alive = () => mine === legendRun;
  if (!tablesRead && !isOfClass(S.colour)) return;
  const masks = masksWithout(S.colour);
  drawLegend(null);
  try {
    const sums = await countCategories(masks, alive, (part) => say(`counting ${Math.round(part * 100)} %`));
    if (!alive() || sums === null) return;
    say("");
    legendCounts = sums;
    drawLegend(sums);
  } catch (error) {
    fail(error);
  }
}

function drawLegend(sums) {
  const focused = document.activeElement?.dataset?.category;
  const rows = [];
  let number = 0;
  categories.forEach((category, at) => {
    if (category.unused || (sums !== null && sums[at] === 0 && !isOff(S.colour, category.key))) return;
    if (sums === null && legendCounts === null) return;
    const off = isOff(S.colour, category.key);
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = category.colour[dark ? 1 : 0];
    const count = make("span", { class: "count", textContent: sums === null ? "…" : grouped(sums[at]) });
    number++;
    const button = make(
      "button",
      { type: "button", class: off ? "off" : "", "aria-pressed": String(!off), title: number < 10 ? `Switch (${number})` : "Switch" },
      swatch,
      make("span", { class: "name", textContent: category.label }),
      count,
    );
    button.dataset.category = category.key;
    button.dataset.at = at;
    button.onclick = () => toggleCategory(at);
    rows.push(make("li", {}, button));
  });
  if (S.colour === "duration") {
    rows.push(make("li", { class: "facts", textContent: "Where faults are merged, their mean is drawn; the counts are exact." }));
  }
  legend.replaceChildren(...rows);
  if (focused !== undefined) {
    [...legend.querySelectorAll("button")].find((button) => button.dataset.category === focused)?.focus();
  }
}

// ---- the summary of a box

let summaryRun = 0;

async function summarize(box) {
  const mine = ++summaryRun;
  const alive = () => mine === summaryRun;
  if (M.raw.length === 0) {
    summary.replaceChildren(make("p", { textContent: "The single faults were left out of this page: nothing exact can be said of a box." }));
    return;
  }
  summary.replaceChildren(make("p", { textContent: "counting…" }));
  try {
    const sum = await sumOf(box, alive, (part) => {
      summary.replaceChildren(make("p", { textContent: `counting ${Math.round(part * 100)} %` }));
    });
    if (sum !== null && alive()) showSummary(sum);
  } catch (error) {
    fail(error);
  }
}

function showSummary(sum) {
  const seconds = ((sum.box.t1 - sum.box.t0) * M.step) / 1e9;
  const rows = [["faults", grouped(sum.faults)]];
  if (sum.pages !== null) rows.push(["pages", `${grouped(sum.pages)} (${sizeText(sum.pages * M.pageBytes)})`]);
  rows.push(["bytes", sizeText(sum.faults * M.pageBytes)]);
  rows.push(["from", clockText(sum.box.t0, (sum.box.t1 - sum.box.t0) * M.step * 1e-3, false)]);
  rows.push(["length", shortTime(seconds * 1e9)]);
  if (seconds > 0) rows.push(["rate", `${grouped(sum.faults / seconds)} a second`]);
  if (sum.timed > 0) {
    // Without their lower digits, durations are too short by up to an eighth.
    rows.push(["time in faults", (M.digits ? "" : "at least ") + shortTime(sum.time)]);
    rows.push(["mean, longest", `${shortTime(sum.time / sum.timed)}, ${shortTime(sum.longest)}`]);
  }
  if (sum.attempts) rows.push(["retried", grouped(sum.attempts)]);
  const list = make("dl", { id: "sums" });
  for (const [key, value] of rows) {
    list.append(make("dt", { textContent: key }), make("dd", { id: "sum-" + key.replace(/[^a-z]/g, "-"), textContent: value }));
  }
  const by = (of) => {
    const sums = new Map();
    sum.classes.forEach((count, c) => {
      if (count) sums.set(of(M.classes[c]), (sums.get(of(M.classes[c])) ?? 0) + count);
    });
    return sums;
  };
  const named = (counts, name) => {
    const sums = new Map();
    counts.forEach((count, index) => {
      if (count) sums.set(name(index), (sums.get(name(index)) ?? 0) + count);
    });
    return sums;
  };
  const parts = [
    ["kinds", by(([, , kind]) => M.kinds[kind])],
    ...(hasColour("page size") ? [["page sizes", by((entry) => (entry[6] === null ? "not known" : sizeText(entry[6])))]] : []),
    ["mappings", by(([, name]) => (mappingOf(name) ?? "not known").split("/").pop())],
    ["threads", named(sum.threads, threadText)],
    ["code", named(sum.codes, (code) => symbolText(code) ?? "not known")],
  ];
  if (T.frames.length) parts.push(["callers", named(sum.codes, (code) => callerText(code) ?? "not known")]);
  const close = make("button", { type: "button", textContent: "close", title: "Close (Escape)" });
  close.onclick = clearSelection;
  summary.replaceChildren(make("h2", {}, "selection ", close), list);
  for (const [name, sums] of parts) {
    if (sums.size === 0) continue;
    const top = [...sums].sort((a, b) => b[1] - a[1]);
    const rows = top.slice(0, TOP_ROWS_SHOWN).map(([label, count]) =>
      make("li", {}, make("span", { class: "name", textContent: shortened(label, 34) }), make("span", { class: "count", textContent: grouped(count) })),
    );
    if (top.length > TOP_ROWS_SHOWN) {
      const rest = top.slice(TOP_ROWS_SHOWN).reduce((total, [, count]) => total + count, 0);
      rows.push(make("li", {}, make("span", { class: "name", textContent: `${top.length - TOP_ROWS_SHOWN} more` }), make("span", { class: "count", textContent: grouped(rest) })));
    }
    summary.append(make("h3", { textContent: name }), make("ul", { class: "top" }, ...rows));
  }
}

function clearSelection() {
  selection = null;
  summaryRun++;
  summary.replaceChildren();
  redraw();
}

// ---- the bubble

function showHover(point) {
  const before = hover;
  hover = point === null ? null : { point };
  if (point === null) {
    bubble.style.display = "none";
    if (before !== null) redraw();
    return;
  }
  const list = make("dl");
  for (const [key, value] of point.facts) {
    list.append(make("dt", { textContent: key }), make("dd", { textContent: shortened(value, key === "called by" ? 400 : 110) }));
  }
  bubble.replaceChildren(list);
  bubble.style.display = "block";
  const { offsetWidth: width, offsetHeight: height } = bubble;
  const x = point.x + 16 + width > whole.width ? point.x - 16 - width : point.x + 16;
  const y = Math.min(Math.max(4, point.y - height / 2), whole.height - height - 4);
  bubble.style.left = Math.max(4, x) + "px";
  bubble.style.top = y + "px";
  redraw();
}

// ---- help, light and dark

const HELP = [
  ["wheel", "zoom time at the pointer"],
  ["Shift + wheel", "zoom addresses of the panel under the pointer"],
  ["Ctrl + wheel", "zoom both"],
  ["drag", "pan time, and addresses of a zoomed panel"],
  ["Alt + drag, right drag", "select a box and sum it up"],
  ["double click", "zoom in"],
  ["drag in the strip", "choose the window"],
  ["click on a panel's name", "fold it; with Shift: show it alone"],
  ["← → ↑ ↓", "pan"],
  ["+ −", "zoom time"],
  ["Shift with + −", "zoom addresses of the chosen panel"],
  ["Page Up, Page Down", "choose a panel"],
  ["Enter", "fold the chosen panel"],
  ["o", "show the chosen panel alone, or all again"],
  ["0, Home", "show everything"],
  ["Backspace, f", "back, forward"],
  ["c", "next colour"],
  ["1 … 9", "switch an entry of the legend"],
  ["/", "search a text"],
  ["w", "time since start, or wall clock"],
  ["s", "sum up what is in the window"],
  ["x", "cross-hairs: arrows move them (Shift: by one pixel) and read the fault there"],
  ["b", "with cross-hairs: one corner of a box, then the other"],
  ["z", "zoom to the selected box"],
  ["d", "light or dark"],
  ["Escape", "close"],
];

function buildHelp() {
  const list = make("dl");
  for (const [key, what] of HELP) list.append(make("dt", { textContent: key }), make("dd", { textContent: what }));
  const close = make("button", { type: "button", textContent: "close" });
  close.onclick = toggleHelp;
  help.append(make("h2", { textContent: "Keys and pointer" }), list, close);
}

function toggleHelp() {
  if (help.open) help.close();
  else help.showModal();
}

function applyDark() {
  styles = {};
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

function toggleDark() {
  dark = !dark;
  applyDark();
  drawLegend(legendCounts);
  redraw();
}

// SPDX-License-Identifier: GPL-2.0-only
//
// Questions that need the single faults: what a box sums up to, what is under the pointer, what passes filters that
// marks do not tell.

/** A box in pages and steps from one in pixels of the stage. */
function boxOf({ x0, x1, y0, y1 }) {
  const parts = [];
  frames.forEach((frame, panel) => {
    if (frame === null) return;
    const top = TOP + frame.top / area.ratio;
    const end = top + frame.height / area.ratio;
    if (y1 <= top || y0 >= end) return;
    const low = frame.from + Math.max(0, (frame.top + frame.height - (y1 - TOP) * area.ratio) / frame.scale);
    const high = Math.min(frame.to, frame.from + (frame.top + frame.height - (y0 - TOP) * area.ratio) / frame.scale);
    // Whole pages: those whose middle is in the box.
    const from = Math.ceil(low - 0.5);
    const to = Math.ceil(high - 0.5);
    if (to > from) parts.push([panel, from, to]);
  });
  const t0 = Math.max(0, Math.ceil(timeAt(x0)));
  const t1 = Math.min(M.span + 1, Math.ceil(timeAt(x1)));
  return { t0, t1, parts };
}

function boxPixels(box) {
  const ys = box.parts.flatMap(([panel, from, to]) =>
    frames[panel] === null ? [] : [yOf(panel, to), yOf(panel, from)].map((y) => clampTo(panel, y)),
  );
  return {
    x0: Math.max(LEFT, Math.min(xOf(box.t0), LEFT + area.width)),
    x1: Math.max(LEFT, Math.min(xOf(box.t1), LEFT + area.width / area.ratio)),
    y0: Math.min(plotBottom(), ...ys),
    y1: Math.max(TOP, ...ys),
  };
}

function clampTo(panel, y) {
  const top = TOP + frames[panel].top / area.ratio;
  return Math.min(Math.max(y, top), top + frames[panel].height / area.ratio);
}

const breath = () => new Promise((resolve) => setTimeout(resolve));

/** Walks over the single faults of a time; `each` gets points and the range in them. False: given up. */
async function walk(t0, t1, alive, each, progress) {
  const list = overlapping(M.raw, t0, t1, 1);
  // Used again and again: what each chunk leaves behind would be collected too late.
  const room = rawArrays(Math.max(0, ...list.map((i) => M.raw[i][2])));
  let last = performance.now();
  for (let i = 0; i < list.length; i++) {
    const id = "r" + list[i];
    let points = store.peek(id);
    while (!points) {
      // Read, but not kept: a walk over everything would drive out what is on the screen.
      const bytes = await inflate(id);
      if (!alive()) return false;
      if (bytes !== null) points = decodeRaw(bytes, M.raw[list[i]][2], room);
      else if (document.readyState === "loading") await new Promise((resolve) => setTimeout(resolve, 50));
      else throw new Error(`the page is not whole: it lacks ${id}`);
    }
    each(points, lowerBound(points.t, t0), lowerBound(points.t, t1));
    if (performance.now() - last > 40) {
      progress(i / list.length);
      await breath();
      last = performance.now();
    }
    if (!alive()) return false;
  }
  return true;
}

/** Sums up what is in a box and passes the filters: exact, from the single faults. */
async function sumOf(box, alive, progress) {
  const low = new Float64Array(PANELS).fill(Infinity);
  const high = new Float64Array(PANELS).fill(-Infinity);
  for (const [panel, from, to] of box.parts) [low[panel], high[panel]] = [from, to];
  const sum = { faults: 0, time: 0, timed: 0, longest: 0, attempts: 0 };
  const classes = new Float64Array(CLASSES);
  const threads = new Float64Array(M.threads);
  const codes = new Float64Array(T.codes.length);
  const buckets = new Float64Array(UNKNOWN_DURATION + 1);
  // Pages are told by where they are drawn: where address spaces lie over each other, that says too little.
  const pagesKnown = box.parts.every(([panel]) => M.panels[panel].file || M.panels[panel].spaces === 1);
  const touched = M.panels.map(() => null);
  for (const [panel] of box.parts) if (pagesKnown) touched[panel] = new Uint8Array(Math.ceil(M.panels[panel].pages / 8));
  const masks = masksNow();
  const done = await walk(
    box.t0,
    box.t1,
    alive,
    (points, from, to) => {
      const { cls, y, thread, duration, code, attempts } = points;
      for (let i = from; i < to; i++) {
        const panel = panelOf[cls[i]];
        if (y[i] < low[panel] || y[i] >= high[panel] || !passes(points, i, masks)) continue;
        sum.faults++;
        classes[cls[i]]++;
        threads[thread[i]]++;
        if (code && code[i] !== NO_CODE) codes[code[i]]++;
        if (duration && duration[i] >= 0) {
          sum.time += duration[i];
          sum.timed++;
          if (duration[i] > sum.longest) sum.longest = duration[i];
        }
        buckets[duration ? durationCategory(duration[i]) : UNKNOWN_DURATION]++;
        if (attempts.size) sum.attempts += (attempts.get(i) ?? 1) - 1;
        if (pagesKnown) touched[panel][y[i] >>> 3] |= 1 << (y[i] & 7);
      }
    },
    progress,
  );
  if (!done) return null;
  let pages = 0;
  for (const bits of touched) {
    if (bits !== null) for (let byte of bits) for (; byte; byte &= byte - 1) pages++;
  }
  return { ...sum, classes, threads, codes, buckets, pages: pagesKnown ? pages : null, box };
}

/** Faults by category that pass masks: from marks where they tell, else from the single faults. */
async function countCategories(masks, alive, progress) {
  const sums = new Float64Array(categories.length);
  if (!masks.needsRaw || M.raw.length === 0) {
    const level = masks.needsThreads ? 1 : 0;
    const ids = M.levels[level].chunks.map((_, i) => `l${level}.${i}`);
    for (const id of ids) {
      let points = await store.get(id);
      while (points === null && document.readyState === "loading") {
        await new Promise((resolve) => setTimeout(resolve, 50));
        points = await store.get(id);
      }
      if (!alive()) return null;
      if (points === null) throw new Error(`the page is not whole: it lacks ${id}`);
      for (let i = 0; i < points.n; i++) {
        const a = masks.cls[points.cls[i]];
        const b = masks.thread[points.thread[i]];
        if (a & b & 1 && (a | b) & 2) sums[categoryOf(points, i)] += points.w[i];
      }
    }
    return sums;
  }
  const done = await walk(
    0,
    M.span + 1,
    alive,
    (points, from, to) => {
      for (let i = from; i < to; i++) if (passes(points, i, masks)) sums[categoryOf(points, i)]++;
    },
    progress,
  );
  return done ? sums : null;
}

// ---- filters that marks do not tell

const GRID = 2048;
let collecting = 0;

/** Whether what was collected is as fine as the window asks for. */
const collectedFits = () =>
  collected.t0 <= S.t0 && collected.t1 >= S.t1 && collected.t1 - collected.t0 <= 4 * (S.t1 - S.t0);

/** What can be drawn with such a filter: the single faults if they are few, or what was collected. */
function filteredCandidates() {
  const parts = overlapping(M.raw, S.t0, S.t1, 1);
  const count = parts.reduce((sum, i) => sum + M.raw[i][2], 0);
  if (count <= RAW_MOST) return [{ ids: parts.map((i) => "r" + i), columnPixels: 0, level: -1 }];
  if (collected === null) collect();
  return collected === null ? [] : [{ points: [collected.points], columnPixels: 1, level: -2, complete: collected.done }];
}

/** Goes through the faults of the window, and merges those that pass, by time, page and class. */
async function collect() {
  const mine = ++collecting;
  const { t0, t1 } = S;
  const alive = () => mine === collecting && needsRaw && masksVersion === version;
  const version = masksVersion;
  const width = (t1 - t0) / GRID;
  const rowPages = frames.map((frame) => (frame === null ? 1 : Math.max(1, Math.floor(1.5 / frame.scale))));
  const to = { t: [], y: [], cls: [], thread: [], w: [], head: [], code: [] };
  // Faults of other colours stay apart.
  const byCode = isOfCode(S.colour);
  const others = byCode ? TOP_OTHERS + 1 : M.threads;
  let column = -1;
  let cells = new Map();
  const masks = masksNow();
  const done = await walk(
    t0,
    t1,
    alive,
    (points, from, end) => {
      for (let i = from; i < end; i++) {
        if (!passes(points, i, masks)) continue;
        const here = Math.floor((points.t[i] - t0) / width);
        if (here !== column) {
          column = here;
          cells = new Map();
        }
        const c = points.cls[i];
        const rows = rowPages[panelOf[c]];
        const row = Math.floor(points.y[i] / rows);
        const key = (row * CLASSES + c) * others + (byCode ? codeCategoryOf(points, i) : points.thread[i]);
        const known = cells.get(key);
        if (known !== undefined) {
          to.w[known]++;
          continue;
        }
        cells.set(key, to.t.length);
        to.t.push(t0 + here * width);
        to.y.push((row + 0.5) * rows);
        to.cls.push(c);
        to.thread.push(points.thread[i]);
        to.w.push(1);
        to.head.push(points.head ? points.head[i] : 0);
        to.code.push(points.code ? points.code[i] : NO_CODE);
      }
    },
    (part) => say(`filtering ${Math.round(part * 100)} %`),
  );
  say("");
  if (!done) return;
  const points = {
    n: to.t.length,
    t: Float64Array.from(to.t),
    y: Float32Array.from(to.y),
    cls: Uint32Array.from(to.cls),
    thread: Uint32Array.from(to.thread),
    w: Uint32Array.from(to.w),
    head: Uint16Array.from(to.head),
    code: Uint32Array.from(to.code),
    half: 0,
  };
  collected = { t0, t1, points, done: true, whole: t0 <= 0 && t1 >= M.span + 1 };
  rates = null;
  redraw();
}

// ---- under the pointer

let hovering = 0;

/** Finds the fault nearest to a place of the stage, within some pixels, and shows it. */
async function hoverAt(x, y) {
  const mine = ++hovering;
  const panel = panelAt(y);
  if (panel < 0 || x < LEFT || frames[panel] === null) return showHover(null);
  const reach = 9;
  const t0 = timeAt(x - reach);
  const t1 = timeAt(x + reach);
  const best = { distance: reach * reach + 1 };
  const masks = masksNow();
  const parts = overlapping(M.raw, t0, t1, 1);
  // In the overview thousands of faults are that near: those in the middle column alone.
  const many = parts.length > 6;
  const from = many ? timeAt(x - 0.5) : t0;
  const to = many ? timeAt(x + 0.5) : t1;
  for (const i of overlapping(M.raw, from, to, 1).slice(0, 12)) {
    const points = await store.get("r" + i);
    if (mine !== hovering) return;
    if (points === null) continue;
    const end = lowerBound(points.t, to);
    for (let k = lowerBound(points.t, from); k < end; k++) {
      if (panelOf[points.cls[k]] !== panel) continue;
      const dy = yOf(panel, points.y[k] + 0.5) - y;
      if (dy > reach || dy < -reach) continue;
      const dx = xOf(points.t[k]) - x;
      const distance = dx * dx + dy * dy;
      if (distance < best.distance && passes(points, k, masks)) Object.assign(best, { distance, points, k });
    }
  }
  if (!best.points) return showHover(null);
  const { points, k } = best;
  showHover({ x: xOf(points.t[k]), y: yOf(panel, points.y[k] + 0.5), facts: factsOf(points, k) });
}

/** Callers that a fault is shown with. */
const CALLERS_SHOWN = 12;

/** The names of the callers of a code, the nearest first; none where no stack was recorded. */
function callersOf(code) {
  const callers = [];
  let caller = T.codes[code][3] ?? -1;
  while (caller >= 0) {
    callers.push(nameOf(T.frames[caller][0]) ?? "not known");
    caller = T.frames[caller][1];
  }
  if (caller === -2) callers.push("cut off");
  return callers;
}

/** What there is to say of a fault: pairs of texts. */
function factsOf(points, i) {
  const [panel, mapping, kind, access, fate, , pageBytes] = M.classes[points.cls[i]];
  const facts = [];
  const steps = points.t[i];
  facts.push(["time", `${timeText(steps * M.step, 1)} (${wallText(steps, 9, true)} UTC)`]);
  const low = points.low ? points.low[i] : 0;
  const digits = points.low ? "" : " (the page)";
  if (tablesRead) facts.push(["address", hex(addressOf(points.place[i], points.y[i], low)) + digits]);
  const name = mappingOf(mapping) ?? "not known";
  const segment = segmentAt(panel, points.y[i]);
  const offset =
    M.panels[panel].file && segment
      ? " + " + hex((BigInt("0x" + segment[2]) + BigInt(points.y[i] - segment[0])) * BigInt(M.pageBytes) + BigInt(low))
      : "";
  facts.push(["mapping", name + offset]);
  facts.push(["kind", `${M.kinds[kind]}, ${M.accesses[access]}`]);
  if (pageBytes !== null) facts.push(["page size", sizeText(pageBytes)]);
  const attempts = points.attempts.get(i) ?? 1;
  facts.push(["fate", M.fates[fate] + (attempts > 1 ? `, ${attempts} attempts` : "")]);
  if (points.duration && points.duration[i] >= 0) {
    facts.push(["duration", `${shortTime(points.duration[i])} (${grouped(points.duration[i])} ns)`]);
  }
  if (tablesRead) {
    const [pid, tid, process, thread] = T.threads[points.thread[i]];
    facts.push(["process", `${nameOf(process) ?? "not known"} ${pid}`]);
    facts.push(["thread", `${nameOf(thread) ?? "not known"} ${tid}`]);
    if (points.code && points.code[i] !== NO_CODE) {
      const [symbol, object] = T.codes[points.code[i]];
      // Code that a program made while it ran is in no file.
      const where = nameOf(object)?.split("/").pop();
      const name = nameOf(symbol);
      if (name || where) facts.push(["code", name && where ? `${name} (${where})` : (name ?? where)]);
      const callers = callersOf(points.code[i]);
      if (callers.length > CALLERS_SHOWN) callers.splice(CALLERS_SHOWN - 1, Infinity, "…");
      if (callers.length) facts.push(["called by", callers.join(" ← ")]);
    }
  }
  return facts;
}

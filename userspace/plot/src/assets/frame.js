// SPDX-License-Identifier: GPL-2.0-only
//
// Around the points: panels and their names, axes, marks, losses, the strip of rates, selection.

const LEFT = 210;
const TOP = 40;
const STRIP = 54;
const BOTTOM = STRIP + 30;
const FOLDED = 14;
/** Borders of segments are not drawn where they would become a grey area. */
const LINES_APART = 6;
/** The size of the mark of a trend, and the room above the strip. */
const TREND_MARK = 14;

/** Of each panel, in device pixels of the plot: top, height, pages from .. to, pixels a page. Null: hidden. */
let frames = [];
/** The panel of each row of pixels; 255: none. */
let rowFrame = new Uint8Array(0);
/** In CSS pixels: of everything. */
const whole = { width: 0, height: 0 };
let hover = null;
let selection = null;
let cursor = null;
let focusPanel = 0;

/** The panels from the top. */
function sortedPanels() {
  const panels = M.panels.map((_, panel) => panel);
  if (S.sort === "faults") panels.sort((a, b) => M.panels[b].faults - M.panels[a].faults);
  if (S.sort === "name") panels.sort((a, b) => M.panels[a].label.localeCompare(M.panels[b].label));
  return panels;
}

function layoutFrames() {
  const ratio = window.devicePixelRatio || 1;
  const box = stage.getBoundingClientRect();
  whole.width = Math.max(300, box.width);
  whole.height = Math.max(220, box.height);
  const width = Math.max(50, Math.round((whole.width - LEFT - 10) * ratio));
  const height = Math.max(50, Math.round((whole.height - TOP - BOTTOM) * ratio));
  resizePlot(width, height, ratio);
  plot.style.left = LEFT + "px";
  plot.style.top = TOP + "px";
  plot.style.width = width / ratio + "px";
  plot.style.height = height / ratio + "px";
  if (overlay.width !== Math.round(whole.width * ratio) || overlay.height !== Math.round(whole.height * ratio)) {
    overlay.width = Math.round(whole.width * ratio);
    overlay.height = Math.round(whole.height * ratio);
    overlay.style.width = whole.width + "px";
    overlay.style.height = whole.height + "px";
  }
  const shown = sortedPanels().filter((panel) => !S.hidden.has(panel));
  const open = shown.filter((panel) => !S.folded.has(panel));
  const gap = Math.round(3 * ratio);
  const foldedHeight = Math.round(FOLDED * ratio);
  const room = height - gap * Math.max(0, shown.length - 1) - foldedHeight * (shown.length - open.length);
  const least = Math.min(Math.round(17 * ratio), Math.max(1, Math.floor(room / Math.max(1, open.length))));
  const free = Math.max(0, room - least * open.length);
  const weight = open.reduce((sum, panel) => sum + M.panels[panel].weight, 0);
  frames = M.panels.map(() => null);
  rowFrame = new Uint8Array(height).fill(255);
  let top = 0;
  for (const panel of shown) {
    const folded = S.folded.has(panel);
    const share = folded ? foldedHeight : least + (weight > 0 ? (free * M.panels[panel].weight) / weight : 0);
    const from = Math.round(top);
    const size = Math.max(1, Math.round(top + share) - from);
    const [low, high] = S.y.get(panel) ?? [0, M.panels[panel].pages];
    frames[panel] = { top: from, height: size, from: low, to: high, scale: size / (high - low), folded };
    for (let row = from; row < from + size && row < height; row++) rowFrame[row] = panel;
    top += share + gap;
  }
}

// In CSS pixels of the stage.
const xOf = (t) => LEFT + (((t - S.t0) / (S.t1 - S.t0)) * area.width) / area.ratio;
const timeAt = (x) => S.t0 + (((x - LEFT) * area.ratio) / area.width) * (S.t1 - S.t0);
const stripX = (t) => LEFT + ((t / (M.span + 1)) * area.width) / area.ratio;
const stripTime = (x) => (((x - LEFT) * area.ratio) / area.width) * (M.span + 1);
const plotBottom = () => TOP + area.height / area.ratio;
function yOf(panel, page) {
  const frame = frames[panel];
  return TOP + (frame.top + frame.height - (page - frame.from) * frame.scale) / area.ratio;
}
function panelAt(y) {
  const row = Math.floor((y - TOP) * area.ratio);
  return row >= 0 && row < rowFrame.length && rowFrame[row] !== 255 ? rowFrame[row] : -1;
}
function pageAt(panel, y) {
  const { top, height, from, scale } = frames[panel];
  return from + (top + height - (y - TOP) * area.ratio) / scale;
}

// ---- the strip: faults by time, of all that pass the filters

let rates = null;
function updateRates() {
  const columns = Math.max(1, Math.floor(area.width / area.ratio / 2));
  const sums = new Float64Array(columns);
  // A colour that marks do not tell changes nothing of the sums.
  const source = filtersNeedRaw ? (collected?.whole ? [collected.points] : []) : topParts();
  const scale = columns / (M.span + 1);
  const cell = Math.max(1e-3, (filtersNeedRaw ? (M.span + 1) / GRID : 2 ** M.levels[needsThreads ? 1 : 0].bits) * scale);
  for (const points of source) {
    for (let i = 0; i < points.n; i++) {
      const a = clsMask[points.cls[i]];
      const b = threadMask[points.thread[i]];
      if (!(a & b & 1) || (!filtersNeedRaw && !((a | b) & 2))) continue;
      // A cell is shared out over the columns that it covers.
      const from = Math.min(points.t[i] * scale, columns - 1e-6);
      const to = Math.min(from + cell, columns);
      const share = points.w[i] / Math.max(to - from, 1e-9);
      for (let column = Math.floor(from), left = from; left < to; column++) {
        const right = Math.min(column + 1, to);
        sums[column] += share * (right - left);
        left = right;
      }
    }
  }
  rates = { columns, sums, most: Math.max(1, ...sums), known: source.length > 0 };
}
/** The marks of the coarsest level, or of the one that tells threads; none until all are there. */
function topParts(withThreads = needsThreads) {
  const level = withThreads ? 1 : 0;
  const ids = M.levels[level].chunks.map((_, i) => `l${level}.${i}`);
  const parts = ids.map((id) => store.peek(id));
  if (parts.every(Boolean)) return parts;
  want(ids);
  return [];
}

// ---- drawing

function drawOverlay() {
  const g = overlayContext;
  const ratio = area.ratio;
  const ink = style("--ink");
  const muted = style("--muted");
  const faint = style("--faint");
  const right = LEFT + area.width / ratio;
  const bottom = plotBottom();
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, whole.width, whole.height);
  g.font = "12px system-ui, sans-serif";
  g.textBaseline = "middle";
  drawTimeAxis(g, right, bottom, muted, faint);
  drawPanels(g, right, ink, muted, faint);
  drawMissing(g, right, bottom);
  drawEvents(g, right, bottom, muted);
  drawStrip(g, right, bottom, muted);
  drawTrendMarks(g, bottom, ink);
  drawSelection(g, bottom, ink);
}

function drawTimeAxis(g, right, bottom, muted, faint) {
  const length = (S.t1 - S.t0) * M.step;
  const step = niceStep(length, (right - LEFT) / (S.clock === "wall" ? 150 : 110));
  const steps = step / M.step;
  let origin = 0;
  if (S.clock === "wall") {
    // Ticks on whole units of the wall clock.
    const start = BigInt(M.wallStart);
    const unit = BigInt(Math.round(step));
    origin = Number(-(((start % unit) + unit) % unit)) / M.step;
  }
  g.textAlign = "center";
  const first = Math.ceil((S.t0 - origin) / steps);
  // A tick for each step; the number is bounded by niceStep.
  for (let i = first; i < first + 200; i++) {
    const t = origin + i * steps;
    if (t > S.t1) break;
    const x = xOf(t);
    g.fillStyle = faint;
    g.fillRect(Math.round(x), TOP - 4, 1, 4);
    g.globalAlpha = 0.5;
    g.fillRect(Math.round(x), TOP, 1, bottom - TOP);
    g.globalAlpha = 1;
    const text = clockText(t, step, false);
    const half = g.measureText(text).width / 2;
    g.fillStyle = muted;
    g.fillText(text, Math.min(Math.max(x, LEFT + half - 4), right - half), TOP - 14);
  }
  g.textAlign = "left";
  g.fillStyle = muted;
  const what = S.clock === "wall" ? wallText(S.t0, 0, true).slice(0, -9) + " UTC" : "time since start";
  g.fillText(what, 12, TOP - 14);
}

function drawPanels(g, right, ink, muted, faint) {
  frames.forEach((frame, panel) => {
    if (frame === null) return;
    const { label, segments, file, several, spaces, faults } = M.panels[panel];
    const top = TOP + frame.top / area.ratio;
    const height = frame.height / area.ratio;
    g.fillStyle = ink;
    g.textAlign = "left";
    g.font = panel === focusPanel && focusShown ? "bold 12px system-ui, sans-serif" : "600 12px system-ui, sans-serif";
    const middle = top + Math.min(height / 2, 9);
    const text = shortened(printable(label), 20);
    g.fillText((frame.folded ? "▸ " : "▾ ") + text, 10, middle);
    const nameEnd = 10 + g.measureText("▾ " + text).width;
    if (panel === focusPanel && focusShown) {
      g.strokeStyle = ink;
      g.strokeRect(LEFT - 0.5, top - 0.5, right - LEFT + 1, height + 1);
    }
    if (frame.folded) return;
    g.font = "10px system-ui, sans-serif";
    g.fillStyle = muted;
    if (height >= 30) g.fillText(grouped(faults) + (spaces > 1 && !file ? ` · ${grouped(spaces)} spaces` : ""), 24, top + 23);
    // Addresses, from the top; where the name is, only beside it.
    g.textAlign = "right";
    let free = top - 12;
    const place = (y, words) => {
      if (y - free < 12 || y < top + 5 || y > top + height - 4) return;
      const left = LEFT - 6 - g.measureText(words).width;
      if (left < (y < top + 30 ? Math.max(nameEnd, 110) : 0) + 6) return;
      g.fillText(words, LEFT - 6, y);
      free = y;
    };
    let border = -LINES_APART;
    for (let i = segments.length - 1; i >= 0; i--) {
      const [y, pages, page, mapping] = segments[i];
      const end = yOf(panel, y + pages);
      const begin = yOf(panel, y);
      if (begin < top || end > top + height) continue;
      if (y > 0 && begin < top + height - 1 && begin - border >= LINES_APART) {
        border = begin;
        g.fillStyle = faint;
        g.fillRect(LEFT, Math.round(begin), right - LEFT, 1);
        g.fillStyle = muted;
      }
      if (several) {
        place(Math.max(end, top) + 6, shortened(mappingOf(mapping)?.split("/").pop() ?? "", 18));
      } else {
        const from = Math.max(frame.from, y);
        const to = Math.min(frame.to, y + pages);
        const step = 2 ** Math.ceil(Math.log2(Math.max(1, (24 / frame.scale) * area.ratio)));
        if (step >= to - from) {
          place(Math.min(begin, top + height) - 6, addressText(file, page, Math.floor(from) - y));
        } else {
          for (let at = Math.floor(to / step) * step; at >= from; at -= step) {
            place(yOf(panel, at), addressText(file, page, at - y));
          }
        }
      }
    }
    if (segments.length === 0 && height >= 24) {
      place(top + height - 8, `${sizeText(M.panels[panel].pages * M.pageBytes)}, aligned`);
    }
  });
}

const addressText = (file, page, more) => {
  const value = (BigInt("0x" + page) + BigInt(Math.max(0, Math.round(more)))) * BigInt(M.pageBytes);
  return (file ? "+" : "") + hex(BigInt.asUintN(64, value));
};

function drawMissing(g, right, bottom) {
  let last = -1;
  for (const [from, to, , how] of T.missing) {
    if (to < S.t0 || from > S.t1) continue;
    const x = Math.max(LEFT, xOf(from));
    const end = Math.min(right, Math.max(x + 2, xOf(to)));
    // Those that lie over each other are drawn once.
    if (end <= last) continue;
    g.fillStyle = style("--bad");
    g.globalAlpha = how === "gap" ? 0.12 : 0.2;
    g.fillRect(Math.max(x, last), TOP, end - Math.max(x, last), bottom - TOP);
    g.globalAlpha = 1;
    g.fillRect(x, TOP - 3, end - x, 3);
    last = end;
  }
}

const EVENT_COLOURS = { fork: "--fork", exec: "--exec", exit: "--exit" };

function drawEvents(g, right, bottom, muted) {
  const from = lowerBoundOf(T.events, S.t0);
  const to = lowerBoundOf(T.events, S.t1);
  const few = to - from <= 40;
  let last = -10;
  for (let i = from; i < to; i++) {
    const [time, what] = T.events[i];
    const x = Math.round(xOf(time));
    if (x === last && !few) continue;
    last = x;
    g.fillStyle = style(EVENT_COLOURS[what] ?? "--muted");
    g.fillRect(x, TOP - 5, 1, 5);
    if (few) {
      g.globalAlpha = 0.55;
      g.fillRect(x, TOP, 1, bottom - TOP);
      g.globalAlpha = 1;
    }
  }
  if (!few) return;
  g.font = "10px system-ui, sans-serif";
  g.fillStyle = muted;
  g.textAlign = "left";
  let free = LEFT - 1;
  for (let i = from; i < to; i++) {
    const [time, what, , , name] = T.events[i];
    const text = `${what} ${shortened(nameOf(name)?.split("/").pop() ?? "", 12)}`;
    const x = xOf(time) + 2;
    const width = g.measureText(text).width;
    if (x < free || x + width > right) continue;
    g.fillText(text, x, TOP - 33 + 4);
    free = x + width + 6;
  }
}

function lowerBoundOf(list, time) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle][0] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The trends of a part of the time, by their numbers in the list, and where their marks are: above the strip. */
function trendMarks() {
  const marks = [];
  let free = LEFT;
  M.trends
    .map((trend, index) => [trend, index + 1])
    .filter(([[, , from, to]]) => from > 0 || to < M.span)
    .sort(([one], [other]) => one[2] - other[2])
    .forEach(([trend, number]) => {
      const x = Math.max(stripX(trend[2]) + TREND_MARK / 2, free + TREND_MARK / 2);
      free = x + TREND_MARK / 2 + 1;
      marks.push({ trend, number, x });
    });
  return marks;
}

/** The trend whose mark is at a place of the stage. */
function trendAt(x, y) {
  const below = y - plotBottom();
  if (below < 0 || below > TREND_MARK) return undefined;
  return trendMarks().find((mark) => Math.abs(mark.x - x) <= TREND_MARK / 2)?.trend;
}

function drawTrendMarks(g, bottom, ink) {
  g.font = "9px system-ui, sans-serif";
  g.textAlign = "center";
  for (const { number, x } of trendMarks()) {
    g.fillStyle = ink;
    g.beginPath();
    g.arc(x, bottom + TREND_MARK / 2, TREND_MARK / 2, 0, 7);
    g.fill();
    g.fillStyle = style("--page");
    g.fillText(String(number), x, bottom + TREND_MARK / 2 + 0.5);
  }
  g.textAlign = "left";
}

function drawStrip(g, right, bottom, muted) {
  const top = bottom + TREND_MARK;
  const end = top + STRIP;
  if (rates === null || !rates.known || rates.columns !== Math.max(1, Math.floor(area.width / area.ratio / 2))) updateRates();
  g.fillStyle = style("--strip");
  g.fillRect(LEFT, top, right - LEFT, STRIP);
  g.fillStyle = style("--rate");
  const { columns, sums, most } = rates;
  const width = (right - LEFT) / columns;
  for (let i = 0; i < columns; i++) {
    const height = (sums[i] / most) * (STRIP - 4);
    if (height > 0) g.fillRect(LEFT + i * width, end - Math.max(1, height), width, Math.max(1, height));
  }
  const from = stripX(S.t0);
  const to = Math.max(from + 2, stripX(Math.min(S.t1, M.span + 1)));
  g.fillStyle = style("--veil");
  g.fillRect(LEFT, top, from - LEFT, STRIP);
  g.fillRect(to, top, right - to, STRIP);
  g.strokeStyle = muted;
  g.strokeRect(from + 0.5, top + 0.5, Math.max(1, to - from - 1), STRIP - 1);
  g.fillStyle = muted;
  g.textAlign = "left";
  g.font = "12px system-ui, sans-serif";
  g.fillText("faults per second", 12, top + 10);
  const rate = most / ((((M.span + 1) * M.step) / columns) * 1e-9);
  g.font = "10px system-ui, sans-serif";
  g.fillText(rates.known ? `up to ${grouped(rate)}` : "…", 12, top + 26);
}

function drawSelection(g, bottom, ink) {
  if (selection) {
    const { x0, x1, y0, y1 } = selection.moving ?? boxPixels(selection);
    g.strokeStyle = ink;
    g.setLineDash([4, 3]);
    g.strokeRect(x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0);
    g.setLineDash([]);
    g.fillStyle = style("--select");
    g.fillRect(x0, y0, x1 - x0, y1 - y0);
  }
  if (cursor) {
    g.strokeStyle = ink;
    g.beginPath();
    g.moveTo(cursor.x + 0.5, TOP);
    g.lineTo(cursor.x + 0.5, bottom);
    g.moveTo(LEFT, cursor.y + 0.5);
    g.lineTo(LEFT + area.width / area.ratio, cursor.y + 0.5);
    g.stroke();
  }
  if (hover?.point) {
    g.strokeStyle = ink;
    g.lineWidth = 1.5;
    g.beginPath();
    g.arc(hover.point.x, hover.point.y, 6, 0, 7);
    g.stroke();
    g.lineWidth = 1;
  }
}

// ---- frames

let scheduled = false;
/** Whether the window is being moved. */
let moving = false;
let restTimer = 0;
let masksStale = true;
/** The last frames, in milliseconds of script. */
const frameTimes = [];

function redraw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    const start = performance.now();
    drawFrame();
    frameTimes.push(performance.now() - start);
    if (frameTimes.length > 200) frameTimes.shift();
  });
}

function drawFrame() {
  if (masksStale) {
    updateMasks();
    rates = null;
    masksStale = false;
  }
  layoutFrames();
  drawPoints();
  drawOverlay();
  if (drawn.level !== null) document.body.classList.add("ready");
}

/** Draws anew after a change of the state; `filters`: also what passes. */
function changed(filters = false) {
  if (filters) {
    masksStale = true;
    masksVersion++;
    collected = null;
    refreshLegend();
  }
  hover = null;
  keepState();
  moving = !filters;
  clearTimeout(restTimer);
  if (moving) {
    restTimer = setTimeout(() => {
      moving = false;
      redraw();
    }, 140);
  }
  redraw();
}

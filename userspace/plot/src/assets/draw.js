// SPDX-License-Identifier: GPL-2.0-only
//
// Points → pixels. Each pixel counts its faults by category; it gets the colour of the most frequent one, every
// second pixel that of the runner-up where it has at least half as many, and more of it the more faults there are.

const plot = document.createElement("canvas");
const overlay = document.createElement("canvas");
const plotContext = plot.getContext("2d", { alpha: false });
const overlayContext = overlay.getContext("2d");

/** Points of a frame at most: while the window moves, and when it rests. */
const MOVING_MOST = 200_000;
const RESTING_MOST = 1_500_000;
/** Single faults are drawn where there are fewer. */
const RAW_MOST = 2_200_000;

/** Of the plot in device pixels, and what lies in it. */
const area = { width: 0, height: 0, ratio: 1 };
let image = null;
let pixels = null;
/** Counts and these pixels lie column by column, as the points come: neighbours in time are neighbours in memory. */
let columns = null;
let background = null;
let totals = null;
let counts = null;
/** The category of a pixel's first fault: of most pixels, of all. */
let firsts = null;
let stride = 0;
let touched = null;
let touchedCount = 0;
/** Per class: y in pixels is bottom - page * scale, between top and end; end <= top: not drawn. */
const clsBottom = new Float64Array(CLASSES);
const clsScale = new Float64Array(CLASSES);
const clsTop = new Int32Array(CLASSES);
const clsEnd = new Int32Array(CLASSES);

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const packed = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
let styles = {};
const style = (name) => (styles[name] ??= getComputedStyle(document.documentElement).getPropertyValue(name).trim());

function resizePlot(width, height, ratio) {
  if (area.width === width && area.height === height && area.ratio === ratio) return;
  Object.assign(area, { width, height, ratio });
  plot.width = width;
  plot.height = height;
  image = plotContext.createImageData(width, height);
  pixels = new Uint32Array(image.data.buffer);
  columns = new Uint32Array(width * height);
  background = new Uint32Array(height);
  totals = new Uint32Array(width * height);
  firsts = new Uint8Array(width * height);
  touched = new Uint32Array(width * height);
  stride = 0;
}

/** Places the classes, and paints what lies behind the points. */
function preparePlot() {
  const { width, height } = area;
  const count = categories.length;
  if (stride !== count) {
    stride = count;
    counts = new Uint16Array(width * height * stride);
  }
  background.fill(packed(rgb(style("--gap"))));
  const paper = packed(rgb(style("--panel")));
  const folded = packed(rgb(style("--folded")));
  for (const frame of frames) {
    if (frame === null) continue;
    const from = Math.max(0, frame.top);
    const to = Math.min(height, frame.top + frame.height);
    if (to > from) background.fill(frame.folded ? folded : paper, from, to);
  }
  for (let c = 0; c < CLASSES; c++) {
    const frame = frames[panelOf[c]];
    if (frame === null || !(clsMask[c] & 1)) {
      clsTop[c] = clsEnd[c] = 0;
      continue;
    }
    clsScale[c] = frame.scale;
    clsBottom[c] = frame.top + frame.height + frame.from * frame.scale;
    clsTop[c] = Math.max(0, frame.top);
    clsEnd[c] = Math.min(height, frame.top + frame.height);
  }
}

function accumulate(points, from, to) {
  const { t, y, cls, thread, w, head, half } = points;
  const { width, height: rows } = area;
  const { t0 } = S;
  const across = width / (S.t1 - t0);
  const byClass = isOfClass(S.colour);
  const byCode = isOfCode(S.colour);
  const byDuration = S.colour === "duration";
  // What was collected passes the filters already.
  const exact = filtersNeedRaw && points.w === null;
  const masks = masksNow();
  const checks = !exact && !(needsRaw && points.w !== null) && (someThreadsOff || S.text.trim() !== "");
  for (let i = from; i < to; i++) {
    const c = cls[i];
    const end = clsEnd[c];
    const top = clsTop[c];
    if (end <= top) continue;
    const height = clsBottom[c] - (y[i] + half) * clsScale[c];
    if (height < top || height >= end) continue;
    const row = height | 0;
    if (exact) {
      if (!passes(points, i, masks)) continue;
    } else if (checks) {
      const b = threadMask[thread[i]];
      if (!(b & 1) || !((clsMask[c] | b) & 2)) continue;
    }
    const at = (((t[i] - t0) * across) | 0) * rows + row;
    const n = w === null ? 1 : w[i];
    let category;
    if (byClass) category = clsCategory[c];
    else if (byCode) category = codeCategoryOf(points, i);
    else if (byDuration) category = head === null ? UNKNOWN_DURATION : headCategory[head[i]];
    else category = threadCategory[thread[i]];
    const before = totals[at];
    if (before === 0) {
      touched[touchedCount++] = at;
      firsts[at] = category;
    }
    totals[at] = before + n;
    const q = at * stride + category;
    const sum = counts[q] + n;
    counts[q] = sum > 65535 ? 65535 : sum;
  }
}

const SHADES = 32;

/** For each category, its shades from few faults to many. */
function shadesOf() {
  const paper = rgb(style("--panel"));
  const table = new Uint32Array(stride * SHADES);
  categories.forEach(({ colour }, category) => {
    const full = rgb(colour[dark ? 1 : 0]);
    for (let shade = 0; shade < SHADES; shade++) {
      const part = 0.55 + (0.45 * shade) / (SHADES - 1);
      table[category * SHADES + shade] = packed(full.map((value, i) => Math.round(paper[i] + (value - paper[i]) * part)));
    }
  });
  return table;
}

/** The shade of so many faults, and of panels: rows, and pixels of a fault. */
const shadeOf = new Uint8Array(4096);
const frameTop = new Int32Array(256);
const frameEnd = new Int32Array(256);
const frameDot = new Int32Array(256);

/** Paints what was counted, and clears the counts. `dot`: pixels of a fault; of marks, those of their cell. */
function paint(dotWidth, dotHeights, shift) {
  const { width, height } = area;
  clearColumns();
  const shades = shadesOf();
  let most = 2;
  for (let i = 0; i < touchedCount; i++) if (totals[touched[i]] > most) most = totals[touched[i]];
  const scale = (SHADES - 1) / Math.log2(most);
  for (let n = 1; n < shadeOf.length; n++) shadeOf[n] = (Math.log2(n) * scale) | 0;
  for (let panel = 0; panel < PANELS; panel++) {
    const frame = frames[panel];
    if (frame === null) continue;
    frameTop[panel] = Math.max(0, frame.top);
    frameEnd[panel] = Math.min(height, frame.top + frame.height);
    frameDot[panel] = dotHeights[panel];
  }
  const single = dotWidth === 1 && dotHeights.every((dotHeight) => dotHeight === 1);
  for (let i = 0; i < touchedCount; i++) {
    const at = touched[i];
    const total = totals[at];
    let first = firsts[at];
    let second = first;
    let best = counts[at * stride + first];
    let next = 0;
    if (best === total) counts[at * stride + first] = best = 0;
    else for (let k = 0, q = at * stride; k < stride; k++, q++) {
      const n = counts[q];
      if (n === 0) continue;
      counts[q] = 0;
      if (k === first && n === best) continue;
      if (n > best) {
        next = best;
        second = first;
        best = n;
        first = k;
      } else if (n > next) {
        next = n;
        second = k;
      }
    }
    const shade = total < shadeOf.length ? shadeOf[total] : (Math.log2(total) * scale) | 0;
    totals[at] = 0;
    const x = (at / height) | 0;
    const y = at - x * height;
    const one = shades[first * SHADES + shade];
    const two = next * 2 >= best ? shades[second * SHADES + shade] : one;
    if (single) {
      columns[at] = (x + y) & 1 ? two : one;
      continue;
    }
    const panel = rowFrame[y];
    const dotHeight = frameDot[panel];
    let from = y - (dotHeight >> 1);
    let to = from + dotHeight;
    if (from < frameTop[panel]) from = frameTop[panel];
    if (to > frameEnd[panel]) to = frameEnd[panel];
    if (dotWidth === 1) {
      for (let row = from, pixel = at - y + from; row < to; row++) columns[pixel++] = (x + row) & 1 ? two : one;
      continue;
    }
    let left = x - shift;
    let right = left + dotWidth;
    if (left < 0) left = 0;
    if (right > width) right = width;
    for (let column = left; column < right; column++) {
      const pixel = column * height;
      for (let row = from; row < to; row++) columns[pixel + row] = (column + row) & 1 ? two : one;
    }
  }
  touchedCount = 0;
  showColumns();
}

function clearColumns() {
  const { width, height } = area;
  for (let x = 0; x < width; x++) columns.set(background, x * height);
}

/** Turns columns into the rows of an image, in strips that fit in the cache. */
function showColumns() {
  const { width, height } = area;
  for (let left = 0; left < width; left += 16) {
    const right = Math.min(width, left + 16);
    for (let y = 0; y < height; y++) {
      let to = y * width + left;
      for (let x = left, from = left * height + y; x < right; x++, from += height) pixels[to++] = columns[from];
    }
  }
  plotContext.putImageData(image, 0, 0);
}

// ---- what is drawn from

/** Indices of the chunks of an index that overlap a time; `width`: steps of a column. */
function overlapping(chunks, t0, t1, width) {
  const list = [];
  for (let i = 0; i < chunks.length; i++) {
    const [from, to] = chunks[i];
    if (from * width < t1 && (to + 1) * width > t0) list.push(i);
  }
  return list;
}

/** About how many points of chunks lie in the window. */
function visible(chunks, indices, width) {
  let count = 0;
  for (const i of indices) {
    const [from, to, n] = chunks[i];
    const part = (Math.min((to + 1) * width, S.t1) - Math.max(from * width, S.t0)) / ((to - from + 1) * width);
    count += n * Math.min(Math.max(part, 0), 1);
  }
  return count;
}

/**
 * How the window can be drawn, best first: from the coarsest level that looks like the single faults, where a frame
 * has room for it; else from the finest that a frame has room for.
 */
function candidates() {
  const list = [];
  const perStep = area.width / (S.t1 - S.t0);
  M.levels.forEach(({ bits, rows, chunks, threads }, level) => {
    if (needsThreads !== threads) return;
    const columnPixels = perStep * 2 ** bits;
    const rowPixels = frames.map((frame, panel) =>
      frame === null || frame.folded || rows[panel] === 0 ? 0 : frame.scale * 2 ** rows[panel],
    );
    const parts = overlapping(chunks, S.t0, S.t1, 2 ** bits);
    list.push({
      ids: parts.map((i) => `l${level}.${i}`),
      count: visible(chunks, parts, 2 ** bits),
      fine: columnPixels <= 1.5 && Math.max(0, ...rowPixels) <= 3.2,
      columnPixels,
      rowPixels,
      level,
    });
  });
  const parts = overlapping(M.raw, S.t0, S.t1, 1);
  if (M.raw.length) {
    list.push({ ids: parts.map((i) => "r" + i), count: visible(M.raw, parts, 1), fine: true, columnPixels: 0, level: -1 });
  }
  const most = moving ? MOVING_MOST : RESTING_MOST;
  const fits = list.filter(({ count }) => count <= most);
  const raw = list.at(-1);
  const easy = raw.level === -1 && raw.count <= MOVING_MOST;
  const best = easy ? raw : fits.find(({ fine }) => fine) ?? fits.at(-1) ?? list[0];
  // Until the best has been read: finer ones that are there, then coarser ones.
  const others = list.filter((entry) => entry !== best && (entry.count <= most || entry === list[0]));
  return [best, ...others.reverse()];
}

/** What the last frame was drawn from. */
let drawn = { level: null, complete: false };
let collected = null;

/** Draws the points. Asks for what is better and not there yet; what is there is drawn meanwhile. */
function drawPoints() {
  preparePlot();
  touchedCount = 0;
  let chosen = null;
  let complete = false;
  let parts = [];
  if (needsRaw && collected !== null && !collectedFits()) collected = null;
  const list = needsRaw ? filteredCandidates() : candidates();
  for (const entry of list) {
    if (entry.points) {
      [chosen, parts, complete] = [entry, entry.points, entry.complete];
      break;
    }
    parts = entry.ids.map((id) => store.peek(id));
    const missing = entry.ids.filter((_, i) => !parts[i]);
    if (missing.length === 0) {
      chosen = entry;
      complete = entry === list[0];
      break;
    }
    if (entry === list[0]) want(missing);
  }
  if (chosen === null) {
    clearColumns();
    showColumns();
    drawn = { level: null, complete: false };
    return;
  }
  let points = 0;
  for (const part of parts) {
    const from = lowerBound(part.t, S.t0);
    const to = lowerBound(part.t, S.t1);
    accumulate(part, from, to);
    points += to - from;
  }
  const ratio = area.ratio;
  const dot = Math.max(1, Math.round((touchedCount > 120_000 ? 1 : touchedCount > 25_000 ? 2 : touchedCount > 1_500 ? 3 : 5) * ratio));
  const width = Math.max(dot === 1 ? 1 : dot, Math.ceil(chosen.columnPixels ?? 0));
  const heights = frames.map((frame, panel) =>
    frame === null ? 1 : Math.max(dot, Math.min(40 * ratio, Math.ceil(chosen.rowPixels?.[panel] ?? 0))),
  );
  // A cell begins at its time; a single fault is in the middle of its dot.
  paint(width, heights, chosen.columnPixels ? 0 : width >> 1);
  drawn = { level: chosen.level, complete, points };
}

/** Loads chunks, and draws again when they are there. */
function want(ids) {
  let left = 4;
  for (const id of ids) {
    const waited = store.waiting.get(id);
    if (waited) {
      // Somebody else asked for it, who draws nothing.
      waited.then(redraw, fail);
      continue;
    }
    if (left-- === 0) break;
    if (!hasChunk(id)) continue;
    store.get(id).then(redraw, fail);
  }
}

// SPDX-License-Identifier: GPL-2.0-only
//
// Pointer, keys, the link; and the start.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
/** The shortest window, in steps. */
const SHORTEST = 20;
let focusShown = false;

function setTime(t0, t1) {
  const most = M.span + 1;
  const length = clamp(t1 - t0, Math.min(SHORTEST, most), most);
  const middle = (t0 + t1) / 2;
  S.t0 = clamp(middle - length / 2, 0, most - length);
  S.t1 = S.t0 + length;
}

function zoomTime(factor, at = (S.t0 + S.t1) / 2) {
  const length = clamp((S.t1 - S.t0) * factor, Math.min(SHORTEST, M.span + 1), M.span + 1);
  const part = (at - S.t0) / (S.t1 - S.t0);
  S.t0 = clamp(at - part * length, 0, M.span + 1 - length);
  S.t1 = S.t0 + length;
}

function setPages(panel, from, to) {
  const { pages } = M.panels[panel];
  const length = clamp(to - from, Math.min(1, pages), pages);
  const low = clamp(from, 0, pages - length);
  if (length >= pages) S.y.delete(panel);
  else S.y.set(panel, [low, low + length]);
}

function zoomPages(panel, factor, at) {
  if (panel < 0 || frames[panel] === null || frames[panel].folded) return;
  const { from, to } = frames[panel];
  const page = at ?? (from + to) / 2;
  const length = (to - from) * factor;
  const low = page - ((page - from) / (to - from)) * length;
  setPages(panel, low, low + length);
}

function panPages(panel, part) {
  const frame = frames[panel];
  if (!frame) return;
  const by = (frame.to - frame.from) * part;
  setPages(panel, frame.from + by, frame.to + by);
}

const shownPanels = () => sortedPanels().filter((panel) => frames[panel]);

function movePanel(by) {
  const list = shownPanels();
  if (list.length === 0) return;
  const at = list.indexOf(focusPanel);
  focusPanel = list[clamp(at + by, 0, list.length - 1)];
  focusShown = true;
}

function toggleFold(panel) {
  if (!S.folded.delete(panel)) S.folded.add(panel);
  changed();
}

function zoomToBox() {
  if (!selection?.parts) return;
  const { t0, t1, parts } = selection;
  setTime(t0, t1);
  for (const [panel, from, to] of parts) setPages(panel, from, to);
  changed();
}

function select(pixelBox) {
  selection = boxOf(pixelBox);
  summarize(selection);
  redraw();
}

// ---- pointer

let drag = null;
const at = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

function onWheel(event) {
  event.preventDefault();
  const [x, y] = at(event);
  // Shift turns the wheel sideways in some browsers.
  const turn = event.deltaY || event.deltaX;
  const factor = 1.0015 ** clamp(turn * (event.deltaMode === 1 ? 30 : 1), -600, 600);
  const panel = panelAt(y);
  if (event.shiftKey || event.ctrlKey) {
    if (panel >= 0) zoomPages(panel, factor, pageAt(panel, y));
  }
  if (!event.shiftKey) zoomTime(factor, y > plotBottom() ? stripTime(x) : timeAt(x));
  changed();
}

function onDown(event) {
  const [x, y] = at(event);
  stage.focus({ preventScroll: true });
  cursor = null;
  focusShown = false;
  if (x < LEFT) {
    const panel = panelAt(y);
    if (panel >= 0) {
      focusPanel = panel;
      if (event.shiftKey) showOnly(panel);
      else toggleFold(panel);
    }
    return;
  }
  const trend = trendAt(x, y);
  if (trend) {
    showTrend(trend);
    return;
  }
  const kind = y > plotBottom() + 8 ? "strip" : event.altKey || event.button === 2 ? "box" : "pan";
  drag = { kind, x, y, x0: x, y0: y, t0: S.t0, t1: S.t1, panel: panelAt(y), moved: false };
  if (kind === "strip") {
    const from = stripX(S.t0);
    const to = stripX(S.t1);
    // Inside of a window that is a part: moves it. Elsewhere: chooses a new one.
    drag.moves = x >= from && x <= to && (S.t0 > 0 || S.t1 < M.span + 1);
  }
  stage.setPointerCapture(event.pointerId);
}

function onMove(event) {
  const [x, y] = at(event);
  if (drag === null) {
    const trend = trendAt(x, y);
    stage.style.cursor = x < LEFT || trend ? "pointer" : "crosshair";
    stage.title = trend ? printable(trend[0]) : "";
    hoverAt(x, y).catch(fail);
    return;
  }
  if (!drag.moved && Math.abs(x - drag.x0) + Math.abs(y - drag.y0) < 4) return;
  drag.moved = true;
  if (drag.kind === "pan") {
    const by = timeAt(drag.x) - timeAt(x);
    setTime(S.t0 + by, S.t1 + by);
    if (drag.panel >= 0 && S.y.has(drag.panel)) {
      panPages(drag.panel, ((y - drag.y) * area.ratio) / frames[drag.panel].height);
    }
    [drag.x, drag.y] = [x, y];
    changed();
  } else if (drag.kind === "strip") {
    if (drag.moves) {
      const by = stripTime(x) - stripTime(drag.x);
      setTime(S.t0 + by, S.t1 + by);
      drag.x = x;
    } else {
      const [a, b] = [stripTime(drag.x0), stripTime(x)].sort((one, other) => one - other);
      setTime(Math.max(0, a), Math.min(M.span + 1, b));
    }
    changed();
  } else {
    selection = { moving: movingBox(x, y) };
    redraw();
  }
}

function movingBox(x, y) {
  const [x0, x1] = [clamp(drag.x0, LEFT, whole.width), clamp(x, LEFT, LEFT + area.width / area.ratio)].sort((a, b) => a - b);
  const [y0, y1] = [drag.y0, clamp(y, TOP, plotBottom())].sort((a, b) => a - b);
  return { x0, x1, y0, y1 };
}

function onUp(event) {
  const [x, y] = at(event);
  if (drag?.kind === "box" && drag.moved) select(movingBox(x, y));
  else if (drag?.kind === "strip" && !drag.moved && !drag.moves) {
    const length = S.t1 - S.t0;
    setTime(stripTime(x) - length / 2, stripTime(x) + length / 2);
    changed();
  }
  drag = null;
}

// ---- keys

function moveCursor(dx, dy) {
  cursor.x = clamp(cursor.x + dx, LEFT, LEFT + area.width / area.ratio - 1);
  cursor.y = clamp(cursor.y + dy, TOP, plotBottom() - 1);
  if (cursor.from) {
    const { from } = cursor;
    const [x0, x1] = [from.x, cursor.x].sort((a, b) => a - b);
    const [y0, y1] = [from.y, cursor.y].sort((a, b) => a - b);
    selection = { moving: { x0, x1, y0, y1 } };
  }
  hoverAt(cursor.x, cursor.y).catch(fail);
  redraw();
}

function corner() {
  if (cursor === null) return;
  if (cursor.from) {
    const box = selection?.moving;
    cursor.from = null;
    if (box) select({ ...box, x1: box.x1 + 1, y1: box.y1 + 1 });
  } else {
    cursor.from = { x: cursor.x, y: cursor.y };
  }
}

/** Does what a key stands for; false for one that stands for nothing. */
function act(key, shift = false) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (key in arrows) {
    const [dx, dy] = arrows[key];
    if (cursor !== null) {
      const by = shift ? 1 : 10;
      moveCursor(dx * by, dy * by);
      return true;
    }
    if (dx) {
      const by = (S.t1 - S.t0) * (shift ? 0.5 : 0.1) * dx;
      setTime(S.t0 + by, S.t1 + by);
    } else {
      panPages(focusPanel, dy * -0.1);
    }
    changed();
    return true;
  }
  switch (key) {
    case "+":
    case "=":
    case "*":
      if (shift && key !== "=") {
        focusShown = true;
        zoomPages(focusPanel, 0.7);
      } else zoomTime(0.7);
      changed();
      break;
    case "-":
    case "_":
      if (shift || key === "_") {
        focusShown = true;
        zoomPages(focusPanel, 1 / 0.7);
      } else zoomTime(1 / 0.7);
      changed();
      break;
    case "Home":
    case "0":
      [S.t0, S.t1] = [0, M.span + 1];
      S.y.clear();
      changed();
      break;
    case "PageUp":
      movePanel(-1);
      redraw();
      break;
    case "PageDown":
      movePanel(1);
      redraw();
      break;
    case "Enter":
      focusShown = true;
      toggleFold(focusPanel);
      break;
    case "o":
      showOnly(focusPanel);
      break;
    case "Backspace":
      history.back();
      break;
    case "f":
      history.forward();
      break;
    case "c": {
      const list = [...colourSelect.options].map((option) => option.value);
      S.colour = list[(list.indexOf(S.colour) + 1) % list.length];
      colourSelect.value = S.colour;
      changed(true);
      break;
    }
    case "/":
      filters.text.focus();
      break;
    case "w":
      S.clock = S.clock === "wall" ? "start" : "wall";
      filters.clock.value = S.clock;
      changed();
      break;
    case "s":
      select({ x0: LEFT, x1: LEFT + area.width / area.ratio, y0: TOP, y1: plotBottom() });
      break;
    case "x":
      cursor = cursor === null ? { x: LEFT + area.width / area.ratio / 2, y: (TOP + plotBottom()) / 2, from: null } : null;
      if (cursor) moveCursor(0, 0);
      else showHover(null);
      redraw();
      break;
    case "b":
      corner();
      break;
    case "z":
      zoomToBox();
      break;
    case "d":
      toggleDark();
      break;
    case "?":
      toggleHelp();
      break;
    case "Escape":
      cursor = null;
      showHover(null);
      clearSelection();
      stage.focus();
      break;
    default: {
      if (!/^[1-9]$/.test(key)) return false;
      const button = legend.querySelectorAll("button")[key - 1];
      if (button) toggleCategory(+button.dataset.at);
    }
  }
  return true;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const { tagName } = event.target;
  if (tagName === "INPUT" || tagName === "SELECT") {
    if (event.key === "Escape") {
      // It would empty the field without a word to anyone.
      event.preventDefault();
      stage.focus();
    }
    return;
  }
  // On a button, Enter is its own.
  if (tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
  if (act(event.key, event.shiftKey)) event.preventDefault();
}

// ---- the start

function fromLink() {
  restore(location.hash.slice(1));
  masksStale = true;
  masksVersion++;
  collected = null;
  syncSide();
  refreshLegend();
  redraw();
}

async function start() {
  applyDark();
  buildSide();
  buildHelp();
  stage.append(plot, overlay, bubble);
  document.body.append(stage, side, help);
  stage.addEventListener("wheel", onWheel, { passive: false });
  stage.addEventListener("pointerdown", onDown);
  stage.addEventListener("pointermove", onMove);
  stage.addEventListener("pointerup", onUp);
  stage.addEventListener("pointerleave", () => drag === null && cursor === null && showHover(null));
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", (event) => {
    zoomTime(0.4, timeAt(at(event)[0]));
    changed();
  });
  addEventListener("keydown", onKey);
  addEventListener("resize", redraw);
  addEventListener("popstate", fromLink);
  addEventListener("hashchange", () => location.hash.slice(1) !== stateText() && fromLink());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    dark = event.matches;
    applyDark();
    drawLegend(legendCounts);
    redraw();
  });
  restore(location.hash.slice(1));
  syncSide();
  for (let i = 0; i < M.levels[0].chunks.length; i++) await store.get("l0." + i);
  firstData = performance.now();
  fromLink();
  await readRest();
}

let firstData = 0;

/** While the rest of the page is being read: says how far it is, and takes what has come. */
async function readRest() {
  const ids = M.levels.flatMap(({ chunks }, level) => chunks.map((_, i) => `l${level}.${i}`));
  ids.push(...M.raw.map((_, i) => "r" + i));
  for (let left = ids; ; ) {
    if (!tablesRead && (await readTables())) fromLink();
    left = left.filter((id) => !hasChunk(id));
    if (left.length === 0 && tablesRead) break;
    if (document.readyState !== "loading") {
      const lacks = left[0] ?? "tables";
      throw new Error(`the file is not whole (it lacks ${lacks}): copy it again`);
    }
    say(`reading ${Math.round((1 - left.length / ids.length) * 100)} %`);
    redraw();
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  say("");
  redraw();
}

// For tests and for the curious: where things are, and how long frames took.
window.faultTracer = {
  M,
  get S() {
    return S;
  },
  get T() {
    return T;
  },
  get drawn() {
    return drawn;
  },
  get firstData() {
    return firstData;
  },
  get ready() {
    return tablesRead && drawn.complete && !moving && progressText.textContent === "";
  },
  frameTimes,
  xOf,
  yOf,
  panelAt,
  trendMarks,
  plotBottom,
  drawNow() {
    const start = performance.now();
    drawFrame();
    return performance.now() - start;
  },
  setTime(t0, t1) {
    setTime(t0, t1);
    changed();
  },
};

start().catch(fail);

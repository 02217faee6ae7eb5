// SPDX-License-Identifier: GPL-2.0-only
//
// Chunks → typed arrays. The format is described in src/encode.rs.

const M = JSON.parse(document.getElementById("metadata").textContent);
const PANELS = M.panels.length;
const CLASSES = M.classes.length;
const NO_CODE = 0xffffffff;
const panelOf = Uint16Array.from(M.classes, (c) => c[0]);

/** Whether an element of the page has been read to its end. */
const isWhole = (element) =>
  element !== null && (document.readyState !== "loading" || element.nextElementSibling !== null);

const hasChunk = (id) => isWhole(document.getElementById(id));

/** Bytes from a text with seven bits a character. */
function unpack(text) {
  const bytes = new Uint8Array((text.length * 7) >> 3);
  let bits = 0;
  let count = 0;
  for (let i = 0, at = 0; i < text.length; i++) {
    bits |= (text.charCodeAt(i) & 127) << count;
    count += 7;
    if (count < 8) continue;
    bytes[at++] = bits;
    bits >>>= 8;
    count -= 8;
  }
  return bytes;
}

/** The bytes of a chunk; null while it has not been read. */
async function inflate(id) {
  const element = document.getElementById(id);
  if (!isWhole(element)) return null;
  const packed = unpack(element.textContent);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function sections(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const list = [];
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    list.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return list;
}

/** n values in planes; `to` is made where there is none. */
function planes(bytes, n, to) {
  const count = bytes[0];
  to ??= count > 4 ? new Float64Array(n) : new Uint32Array(n);
  let scale = 1;
  for (let plane = 0, at = 1; plane < count; plane++, scale *= 256) {
    if (plane === 0) for (let i = 0; i < n; i++) to[i] = bytes[at++];
    else for (let i = 0; i < n; i++) to[i] += bytes[at++] * scale;
  }
  return to;
}

/** Reads varints one after the other. */
class Varints {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  next() {
    let byte = this.bytes[this.at++];
    if (byte < 128) return byte;
    let value = byte & 127;
    let scale = 128;
    do {
      byte = this.bytes[this.at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte >= 128);
    return value;
  }

  signed() {
    const value = this.next();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  get more() {
    return this.at < this.bytes.length;
  }
}

/** Reads numbers of so many bits one after the other. */
class Bits {
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at * 8;
  }

  next(count) {
    let value = 0;
    for (let done = 0; done < count; ) {
      const offset = this.at & 7;
      const some = Math.min(8 - offset, count - done);
      value += ((this.bytes[this.at >>> 3] >> offset) & ((1 << some) - 1)) * 2 ** done;
      this.at += some;
      done += some;
    }
    return value;
  }
}

function table(bytes) {
  const from = new Varints(bytes);
  const list = [];
  while (from.more) list.push(from.next());
  return list;
}

const classArray = (n) => (CLASSES > 65536 ? new Uint32Array(n) : new Uint16Array(n));

/** The least duration of a head (see encode.rs), in nanoseconds. */
function headValue(head) {
  const length = (head - 1) >> 3;
  const digits = (head - 1) & 7;
  return length > 3 ? (8 + digits) * 2 ** (length - 4) : digits;
}

/** Room for the columns of n faults. */
function rawArrays(n) {
  const has = (known, type) => (known ? new type(n) : null);
  return {
    t: new Float64Array(n),
    y: new Uint32Array(n),
    cls: classArray(n),
    local: new Uint32Array(n),
    thread: new Uint32Array(n),
    place: new Uint32Array(n),
    code: has(M.codes, Uint32Array),
    low: new Uint16Array(n),
    head: has(M.durations, Uint16Array),
    duration: has(M.durations, Float64Array),
  };
}

/**
 * Points, as they are drawn: times in steps, pages from the panel's bottom, weights (null: 1).
 * Raw ones have more: the place, the address within the page, codes, exact durations, attempts.
 */
function decodeRaw(bytes, n, room = rawArrays(n)) {
  const part = sections(bytes);
  const of = (column) => column.subarray(0, n);
  const t = planes(part[0], n, of(room.t));
  for (let i = 0, sum = 0; i < n; i++) t[i] = sum += t[i];
  const cls = planes(part[1], n, of(room.cls));
  const threads = table(part[2]);
  const local = planes(part[3], n, of(room.local));
  const thread = of(room.thread);
  const y = of(room.y);
  const place = of(room.place);
  const lastY = new Uint32Array(threads.length * PANELS);
  const lastPlace = new Uint32Array(threads.length * PANELS);
  const ys = new Varints(part[4]);
  const places = new Varints(part[5]);
  for (let i = 0; i < n; i++) {
    const at = local[i] * PANELS + panelOf[cls[i]];
    thread[i] = threads[local[i]];
    lastY[at] = y[i] = lastY[at] + ys.signed();
    const code = places.next();
    if (code !== 0) lastPlace[at] = code - 1;
    place[i] = lastPlace[at];
  }
  let code = null;
  if (part[7].length) {
    const codes = table(part[6]);
    code = planes(part[7], n, of(room.code));
    for (let i = 0; i < n; i++) code[i] = codes[code[i]];
  }
  const low = part[8].length ? planes(part[8], n, of(room.low)) : null;
  let head = null;
  let duration = null;
  if (part[9].length) {
    head = planes(part[9], n, of(room.head));
    duration = of(room.duration);
    const rest = new Bits(part[9], 1 + part[9][0] * n);
    for (let i = 0; i < n; i++) {
      const h = head[i];
      duration[i] = h === 0 ? NaN : headValue(h) + (M.digits && h > 40 ? rest.next(((h - 1) >> 3) - 4) : 0);
    }
  }
  const attempts = new Map();
  const pairs = table(part[10]);
  for (let i = 0; i < pairs.length; i += 2) attempts.set(pairs[i], pairs[i + 1]);
  return { n, t, y, cls, thread, place, code, low, head, duration, attempts, w: null, half: 0.5 };
}

function decodeMarks(bytes, n, level) {
  const part = sections(bytes);
  const { bits, rows } = M.levels[level];
  const width = 2 ** bits;
  const heights = rows.map((row) => 2 ** row);
  const cls = planes(part[1], n, classArray(n));
  const thread = planes(part[2], n);
  const t = new Float64Array(n);
  const y = new Float32Array(n);
  const w = new Uint32Array(n);
  const columns = new Varints(part[0]);
  const rowSteps = new Varints(part[3]);
  const counts = new Varints(part[4]);
  for (let i = 0, column = 0, row = 0; i < n; i++) {
    column += columns.next();
    row += rowSteps.signed();
    t[i] = column * width;
    const panel = panelOf[cls[i]];
    // The middle of what the panel has of the cell.
    const from = row * heights[panel];
    y[i] = (from + Math.min(from + heights[panel], M.panels[panel].pages)) / 2;
    w[i] = counts.next();
  }
  const head = part[5].length ? planes(part[5], n, new Uint16Array(n)) : null;
  return { n, t, y, cls, thread, head, w, half: 0 };
}

/** The first index whose time is not before one. */
function lowerBound(t, time) {
  let low = 0;
  let high = t.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (t[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Decoded chunks; those not used for the longest time are given up. */
const store = {
  /** Points that may be held, about 40 bytes each: more than a frame is ever drawn from. */
  most: 3e6,
  held: 0,
  chunks: new Map(),
  waiting: new Map(),

  peek(id) {
    const points = this.chunks.get(id);
    if (points) {
      this.chunks.delete(id);
      this.chunks.set(id, points);
    }
    return points;
  },

  /** The points of a chunk, in the end; null if the page does not have it yet. */
  get(id) {
    const known = this.peek(id);
    if (known) return Promise.resolve(known);
    if (!this.waiting.has(id)) {
      const done = this.load(id).finally(() => this.waiting.delete(id));
      this.waiting.set(id, done);
    }
    return this.waiting.get(id);
  },

  async load(id) {
    const bytes = await inflate(id);
    if (bytes === null) return null;
    let points;
    if (id[0] === "r") {
      points = decodeRaw(bytes, M.raw[+id.slice(1)][2]);
    } else {
      const [level, index] = id.slice(1).split(".").map(Number);
      points = decodeMarks(bytes, M.levels[level].chunks[index][2], level);
    }
    this.chunks.set(id, points);
    this.held += points.n;
    for (const [old, { n }] of this.chunks) {
      if (this.held <= this.most) break;
      if (old.startsWith("l0.") || old.startsWith("l1.") || old === id) continue;
      this.chunks.delete(old);
      this.held -= n;
    }
    return points;
  },
};

/** Names, threads, codes and their callers, events, losses: empty until they have been read. */
let T = { names: [], threads: [], codes: [], frames: [], events: [], missing: [], bases: [] };
let tablesRead = false;

async function readTables() {
  const bytes = await inflate("tables");
  if (bytes === null) return false;
  T = JSON.parse(new TextDecoder().decode(bytes));
  tablesRead = true;
  return true;
}

// SPDX-License-Identifier: GPL-2.0-only
//
// Numbers, times, addresses and names as people read them.

const grouped = (number) => Math.round(number).toLocaleString("en-US");
const counted = (number, one) => `${grouped(number)} ${one}${number === 1 ? "" : "s"}`;

/** A text without control characters and marks that turn its direction. */
const printable = (text) =>
  text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, "·");

function shortened(text, most) {
  const letters = [...text];
  if (letters.length <= most) return text;
  const tail = most >> 1;
  return letters.slice(0, most - tail - 1).join("") + "…" + letters.slice(-tail).join("");
}

const nameOf = (index) => (index < 0 || index >= T.names.length ? null : printable(T.names[index]));
const mappingOf = (index) => (index < 0 ? null : printable(M.mappings[index]));

function sizeText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 1024 && unit + 1 < units.length) {
    bytes /= 1024;
    unit++;
  }
  return `${bytes < 10 && bytes % 1 > 0.05 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

/** Nanoseconds with as many digits as a step needs. */
function timeText(ns, step = 0) {
  const scale = Math.max(Math.abs(ns), step);
  const [unit, name] =
    scale < 1e3 ? [1, "ns"] : scale < 1e6 ? [1e3, "µs"] : scale < 1e9 ? [1e6, "ms"] : [1e9, "s"];
  let digits = 0;
  for (let fine = unit; fine > Math.max(step, 1) * 1.0001 && digits < 9; fine /= 10) digits++;
  return `${(ns / unit).toFixed(digits)} ${name}`;
}

/** Three digits: `12.3 µs`. */
function shortTime(ns) {
  for (const [unit, name] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
    if (ns >= unit) {
      const value = ns / unit;
      return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${name}`;
    }
  }
  return `${Math.round(ns)} ns`;
}

/** The wall clock at a time in steps, with so many digits behind the seconds, in UTC. */
function wallText(steps, digits, withDate) {
  const ns = BigInt(M.wallStart) + BigInt(Math.round(steps)) * BigInt(M.step);
  const second = 1000000000n;
  let seconds = ns / second;
  let rest = ns % second;
  if (rest < 0n) {
    rest += second;
    seconds -= 1n;
  }
  const text = new Date(Number(seconds) * 1000).toISOString();
  const [date, time] = [text.slice(0, text.indexOf("T")), text.slice(-13, -5)];
  const fraction = digits ? "." + rest.toString().padStart(9, "0").slice(0, digits) : "";
  return (withDate ? date + " " : "") + time + fraction;
}

/** The time in the clock that is chosen; `stepNs`: how fine. */
function clockText(steps, stepNs, withDate) {
  if (S.clock === "wall") {
    const digits = stepNs >= 1e9 ? 0 : Math.min(9, Math.ceil(9 - Math.log10(Math.max(stepNs, 1))));
    return wallText(steps, digits, withDate);
  }
  return timeText(steps * M.step, stepNs);
}

const hex = (value) => "0x" + value.toString(16);

/** The address of page y of a place, as a BigInt. */
function addressOf(place, y, low) {
  const base = BigInt("0x" + T.bases[place]);
  return BigInt.asUintN(64, (base + BigInt(y)) * BigInt(M.pageBytes) + BigInt(low));
}

/** The segment of a panel that has page y; undefined where address spaces are aligned. */
function segmentAt(panel, y) {
  const list = M.panels[panel].segments;
  let found;
  for (const segment of list) if (segment[0] <= y) found = segment;
  return found;
}

function threadText(index) {
  const entry = T.threads[index];
  if (!entry) return "";
  const [pid, tid, process, thread] = entry;
  const names = [nameOf(process) ?? "process", nameOf(thread) ?? "thread"];
  return pid === tid && names[0] === names[1]
    ? `${names[0]} ${pid}`
    : `${names[0]} ${pid} / ${names[1]} ${tid}`;
}

/** The next of 1, 2, 5 times a power of ten. */
function niceStep(length, parts) {
  const rough = Math.max(length / Math.max(parts, 1), 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  for (const factor of [1, 2, 5, 10]) if (power * factor >= rough * 0.999) return power * factor;
  return power * 10;
}

/** Makes an element with a text and children; texts are texts, whatever they hold. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") element.className = value;
    else if (key.startsWith("aria-") || key === "role") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
}

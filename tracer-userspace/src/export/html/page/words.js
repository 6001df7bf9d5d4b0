// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them; the same words as in the text views.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function bytes(value) {
  let unit = 0;
  let scaled = Math.abs(Number(value));
  while (scaled >= 1024 && unit + 1 < UNITS.length) {
    scaled /= 1024;
    unit += 1;
  }
  const digits = unit === 0 ? 0 : 1;
  return `${value < 0 ? "-" : ""}${scaled.toFixed(digits)} ${UNITS[unit]}`;
}

const grouped = new Intl.NumberFormat("en");
const count = (value) => grouped.format(value);
const plural = (value, one, many = `${one}s`) => `${count(value)} ${Number(value) === 1 ? one : many}`;
const hex = (value) => `0x${BigInt(value).toString(16)}`;

/** Nanoseconds as seconds; `step` is what has to stay visible. */
function seconds(ns, step = 1000) {
  const digits = Math.min(9, Math.max(0, Math.ceil(9 - Math.log10(Math.max(step, 1)))));
  return `${(ns / 1e9).toFixed(digits)} s`;
}

/** A duration, in the unit that fits. */
function lasting(ns) {
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toPrecision(3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toPrecision(3)} ms`;
  return `${(ns / 1e9).toPrecision(ns < 1e12 ? 3 : 6)} s`;
}

const CLOCKS = { "allocation-server": "line", "graph-capture": "node" };

/** A time of a process: seconds, or of what was imported a line or node. */
function moment(time, process, step) {
  const unit = CLOCKS[process?.origin];
  return unit ? `${unit} ${count(time)}` : seconds(time, step);
}

function age(time, process) {
  const unit = CLOCKS[process?.origin];
  return unit ? plural(time, unit) : lasting(time);
}

/** Round numbers between two others, so many at most. */
function ticks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  if (!(rough > 0)) return { step: 1, at: [low] };
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  // Counted, as a step may be too small to change a large number.
  const first = Math.ceil(low / step);
  const at = Array.from({ length: Math.ceil(2 * most) + 2 }, (_, index) => (first + index) * step);
  return { step, at: at.filter((tick) => tick <= high) };
}

/** The same of bytes, in powers of two. */
function byteTicks(high, most) {
  const step = 2 ** Math.ceil(Math.log2(Math.max(1, high / Math.max(1, most))));
  const at = [];
  for (let tick = step; tick <= high; tick += step) at.push(tick);
  return at;
}

/** Drops the end of a text that is too wide. */
function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const each = context.measureText("n").width;
  const keep = Math.floor(width / each) - 1;
  return keep < 3 ? "" : `${text.slice(0, keep)}…`;
}

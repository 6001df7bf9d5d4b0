// SPDX-License-Identifier: Apache-2.0
// The data of the page, unpacked: facts as one object, lives and events as columns.

/** Columns of small numbers; the others are doubles. */
const SMALL = new Set(["memory", "state", "stack", "test", "endStack", "endTest", "endOrder", "before", "beforeStack",
  "beforeTest", "allocatedStack", "allocatedTest"]);

const POSSIBLE = 1 << 4;
const FOUND = 1 << 5;
const ENDLESS = 1 << 6;

async function unpacked(id) {
  const element = byId(id);
  const text = element.textContent;
  element.remove();
  const packed = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Reads differences in zigzag varints. A wide column is read in large integers, and keeps them. */
function column(data, { name, at, count: length, wide }) {
  if (wide) return wideColumn(data, at, length);
  const values = SMALL.has(name.split(".")[1]) ? new Uint32Array(length) : new Float64Array(length);
  let place = at;
  let value = 0;
  for (let index = 0; index < length; index += 1) {
    let byte = data[place++];
    let coded = byte & 127;
    let scale = 128;
    while (byte > 127) {
      byte = data[place++];
      coded += (byte & 127) * scale;
      scale *= 128;
    }
    value += coded % 2 === 0 ? coded / 2 : -(coded + 1) / 2;
    values[index] = value;
  }
  return values;
}

function wideColumn(data, at, length) {
  const exact = new BigUint64Array(length);
  const values = new Float64Array(length);
  let place = at;
  let value = 0n;
  for (let index = 0; index < length; index += 1) {
    let coded = 0n;
    let shift = 0n;
    let byte;
    do {
      byte = data[place++];
      coded |= BigInt(byte & 127) << shift;
      shift += 7n;
    } while (byte > 127);
    value = BigInt.asUintN(64, value + ((coded >> 1n) ^ -(coded & 1n)));
    exact[index] = value;
    values[index] = Number(value);
  }
  values.exact = exact;
  return values;
}

/** A number of a column, exactly. */
const exactly = (values, index) => (values.exact ? values.exact[index] : values[index]);

async function load() {
  const [text, data] = await Promise.all([unpacked("facts"), unpacked("columns")]);
  const facts = JSON.parse(new TextDecoder().decode(text));
  const life = {};
  const event = {};
  for (const entry of facts.columns) {
    const [kind, name] = entry.name.split(".");
    (kind === "life" ? life : event)[name] = column(data, entry);
  }
  return { ...facts, ...derived(facts, life, event) };
}

/** What follows from the columns: ends, the whole time, and where each memory's rows are. */
function derived(facts, life, event) {
  const lives = life.begin.length;
  let [first, last] = [Infinity, -Infinity];
  for (let i = 0; i < lives; i += 1) {
    const end = life.begin[i] + life.lasted[i];
    if (life.begin[i] < first) first = life.begin[i];
    if (end > last) last = end;
  }
  for (const time of event.time) {
    if (time < first) first = time;
    if (time > last) last = time;
  }
  for (const process of facts.report.integrity.processes) {
    if (process.end != null && process.end > last) last = process.end;
  }
  if (!Number.isFinite(first)) [first, last] = [0, 1];
  // Long enough to be told from nothing by doubles of that size.
  last = Math.max(last, first + 1, first * (1 + 1e-9));
  life.end = new Float64Array(lives);
  for (let i = 0; i < lives; i += 1) {
    life.end[i] = life.state[i] & ENDLESS ? last : life.begin[i] + life.lasted[i];
  }
  const memories = facts.tables.memories.map((memory, index) => ({
    ...memory, index, label: `${memory.device ?? "unknown device"} ${memory.buffer_type}`,
  }));
  const processes = new Map(facts.report.integrity.processes.map((row) => [row.process, row]));
  return { life, event, memories, processes, first, last, groups: groups(memories, life, event) };
}

/** Rows stand together by process and type of memory, and in these by time. */
function groups(memories, life, event) {
  const found = new Map();
  const add = (kind, rows) => rows.memory.forEach((memory, row) => {
    const { process, buffer_type: type } = memories[memory];
    const key = `${process} ${type}`;
    if (!found.has(key)) found.set(key, { process, type, memories: new Set(), life: [0, 0], event: [0, 0] });
    const group = found.get(key);
    group.memories.add(memories[memory]);
    if (group[kind][1] === 0) group[kind][0] = row;
    group[kind][1] = row + 1;
  });
  add("life", life);
  add("event", event);
  return [...found.values()];
}

/** The first place from `low` on whose number is not below a value. */
function lowerBound(sorted, value, low, high) {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

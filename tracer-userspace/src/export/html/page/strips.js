// SPDX-License-Identifier: Apache-2.0
// The strips of the map: each has lives and events of one memory, or of one type of memory of all devices of a process.

/** More ends of ranges than this are put to scale. */
const MOST_ENDS = 20000;

/**
 * Where addresses are on the vertical axis, from 0 to 1. Unless it is to scale, what lies between two neighbouring ends
 * of ranges takes room by the logarithm of its length, so that a small buffer beside a large one is seen, and what was
 * never used takes little.
 */
class AddressScale {
  constructor(data, { lives, events }, toScale) {
    const { life, event } = data;
    const used = new Map();
    const use = (address, extent) => {
      if (!(used.get(address) >= extent)) used.set(address, extent);
    };
    for (const i of lives) use(life.address[i], life.bank[i] > 0 ? life.bank[i] - 1 : 0);
    for (const j of events) if (event.address[j] > 0) use(event.address[j], 0);
    this.addresses = Float64Array.from(used.keys()).sort();
    for (const i of lives) if (life.bank[i] === 0) use(life.address[i], this.extent(life, i));
    const reached = [...this.addresses].filter((address) => used.get(address) > 0);
    const ends = new Set([...this.addresses, ...reached.map((address) => address + used.get(address))]);
    this.place([...ends].sort((a, b) => a - b), used, toScale);
  }

  place(ends, used, toScale) {
    const linear = toScale || ends.length > MOST_ENDS;
    this.starts = Float64Array.from(ends);
    this.at = new Float64Array(ends.length);
    let inUse = -Infinity;
    for (let index = 1; index < ends.length; index += 1) {
      const from = ends[index - 1];
      if (used.has(from)) inUse = Math.max(inUse, from + used.get(from));
      const length = ends[index] - from;
      const room = linear ? length : inUse > from ? Math.log2(length + 1) : Math.min(3, Math.log2(length + 1));
      this.at[index] = this.at[index - 1] + room;
    }
    this.total = this.at.at(-1) || 1;
  }

  /** How far a life reaches: what it takes in each bank, or where that is not known its size, at most to what is next. */
  extent(life, i) {
    if (life.bank[i] > 0) return Math.max(1, life.bank[i] - 1);
    const next = this.addresses[lowerBound(this.addresses, life.address[i] + 0.5, 0, this.addresses.length)];
    return Math.max(1, Math.min(life.size[i], (next ?? Infinity) - life.address[i]));
  }

  /** From 0, the lowest address, to 1. */
  of(address) {
    const index = Math.max(0, lowerBound(this.starts, address + 0.5, 0, this.starts.length) - 1);
    const [from, to] = [this.starts[index], this.starts[index + 1]];
    const within = to > from ? ((address - from) / (to - from)) * (this.at[index + 1] - this.at[index]) : 0;
    return Math.min(1, (this.at[index] + Math.max(0, within)) / this.total);
  }

  /** The end of a range that is nearest to a place. */
  near(place) {
    const index = lowerBound(this.at, place * this.total, 0, this.at.length);
    const before = Math.max(0, index - 1);
    const after = Math.min(index, this.at.length - 1);
    const nearer = this.at[after] - place * this.total < place * this.total - this.at[before] ? after : before;
    return this.starts[nearer] ?? 0;
  }
}

/** Strips for the memories that a filter takes: one each, or together. Those that are known already are taken. */
function strips(data, selection, together, known) {
  const made = [];
  const add = (group, memories, words) => {
    const key = `${group.process} ${memories.map((memory) => memory.index).join()}`;
    if (!known.has(key)) known.set(key, strip(data, group, memories, { key, ...words }));
    made.push(known.get(key));
  };
  for (const group of data.groups) {
    const memories = [...group.memories].filter((memory) => selection.takesMemory(memory));
    const whole = memories.length === group.memories.size;
    if (together && memories.length > 1) {
      const words = whole ? "all devices" : `${memories.length} devices`;
      add(group, memories, { title: group.type, words, whole });
    } else {
      for (const memory of memories) add(group, [memory], { title: memory.label, words: "", whole: group.memories.size === 1 });
    }
  }
  return made.sort((a, b) => b.allocated - a.allocated);
}

function strip(data, group, memories, { key, title, words, whole }) {
  const { life, event } = data;
  const wanted = new Uint8Array(data.memories.length);
  for (const memory of memories) wanted[memory.index] = 1;
  const rows = (from, to, indexOf, column) => {
    const all = Uint32Array.from({ length: to - from }, (_, index) => indexOf(from + index));
    return whole ? all : all.filter((index) => wanted[column[index]]);
  };
  const lives = rows(...group.life, (index) => index, life.memory);
  return {
    key, process: group.process, title, words, lives,
    ends: rows(...group.life, (index) => life.endOrder[index], life.memory),
    events: rows(...group.event, (index) => index, event.memory),
    allocated: lives.reduce((sum, i) => sum + life.size[i], 0),
  };
}

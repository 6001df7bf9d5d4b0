// SPDX-License-Identifier: Apache-2.0
// The strips of the map: each has lives and events of one memory, or of one type of memory of all devices of a process.

/** Where addresses are on the vertical axis, from 0 to 1: to scale, or with what was never used shrunk. */
class AddressScale {
  constructor({ life, event }, { lives, events }, toScale) {
    const ends = new Map();
    const use = (address, size) => {
      if (!(ends.get(address) >= address + size)) ends.set(address, address + Math.max(size, 1));
    };
    for (const i of lives) use(life.address[i], life.size[i]);
    for (const j of events) if (event.address[j] > 0) use(event.address[j], event.size[j]);
    this.parts = usedParts(ends);
    const used = this.parts.reduce((sum, part) => sum + part.to - part.from, 0);
    const gaps = this.parts.length - 1;
    let at = 0;
    this.parts.forEach((part, index) => {
      const gap = index === 0 ? 0 : part.from - this.parts[index - 1].to;
      at += toScale ? gap : Math.min(gap, (0.12 * used) / Math.max(gaps, 1));
      part.at = at;
      at += part.to - part.from;
    });
    this.total = at || 1;
    this.starts = Float64Array.from(this.parts, (part) => part.from);
  }

  /** From 0, the lowest address, to 1. */
  of(address) {
    const index = Math.max(0, lowerBound(this.starts, address + 0.5, 0, this.starts.length) - 1);
    const part = this.parts[index];
    return part ? (part.at + Math.min(address, part.to) - part.from) / this.total : 0;
  }

  /** The address at a place. */
  address(place) {
    const at = place * this.total;
    const part = this.parts.findLast((it) => it.at <= at) ?? this.parts[0];
    return part ? Math.round(Math.min(part.to, part.from + Math.max(0, at - part.at))) : 0;
  }
}

/** Ranges that were used, without those that are next to others. */
function usedParts(ends) {
  const parts = [];
  for (const from of Float64Array.from(ends.keys()).sort()) {
    const to = ends.get(from);
    const last = parts.at(-1);
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else parts.push({ from, to, at: 0 });
  }
  return parts;
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

// SPDX-License-Identifier: Apache-2.0
// What is looked at: the filters, and what they leave.

const EVERYTHING = { process: "", device: "", type: "", test: "", verdict: "", site: "", search: "" };

/** The filters, the rows that they take, and who wants to know when they change. */
class Selection {
  constructor(data) {
    this.data = data;
    this.wanted = { ...EVERYTHING };
    this.life = new Uint8Array(data.life.begin.length).fill(1);
    this.event = new Uint8Array(data.event.time.length).fill(1);
    this.found = null;
    this.listeners = [];
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  set(changes) {
    Object.assign(this.wanted, changes);
    this.apply();
    this.listeners.forEach((listener) => listener(this));
  }

  get isEverything() {
    return Object.values(this.wanted).every((value) => value === "");
  }

  takesMemory(memory) {
    const { process, device, type } = this.wanted;
    return (process === "" || String(memory.process) === process)
      && (device === "" || (memory.device ?? "unknown") === device)
      && (type === "" || memory.buffer_type === type);
  }

  apply() {
    const { data, wanted } = this;
    const { life, event } = data;
    const memories = data.memories.map((memory) => this.takesMemory(memory));
    const test = wanted.test === "" ? -1 : data.tables.tests.indexOf(wanted.test);
    const verdict = wanted.verdict === "" ? -1 : data.verdicts.findIndex((it) => it.name === wanted.verdict);
    const site = wanted.site === "" ? -1 : data.stacks.sites.findIndex((it) => it.id === wanted.site);
    const sites = data.stacks.stacks.map((stack) => stack.site === site);
    this.found = search(data, wanted.search);
    for (let i = 0; i < this.life.length; i += 1) {
      this.life[i] = memories[life.memory[i]]
        && (test < 0 || life.test[i] === test || life.endTest[i] === test)
        && (verdict < 0 || (life.state[i] & (15 | ENDLESS)) === verdict)
        && (site < 0 || sites[life.stack[i]] || sites[life.endStack[i]]) ? 1 : 0;
    }
    for (let i = 0; i < this.event.length; i += 1) {
      this.event[i] = memories[event.memory[i]]
        && (test < 0 || event.test[i] === test)
        && (verdict < 0 || (event.state[i] & 15) === verdict)
        && (site < 0 || sites[event.stack[i]]) ? 1 : 0;
    }
  }

  /** Whether a search found a life; true if nothing is searched for. */
  isFoundLife(i) {
    const { found, data: { life } } = this;
    return !found || found.stacks[life.stack[i]] || found.stacks[life.endStack[i]] || found.tests[life.test[i]]
      || found.tests[life.endTest[i]] || (found.number != null && (life.id[i] === found.number || life.address[i] === found.number));
  }

  isFoundEvent(i) {
    const { found, data: { event } } = this;
    return !found || found.stacks[event.stack[i]] || found.tests[event.test[i]]
      || (found.number != null && [event.id[i], event.owner[i], event.address[i]].includes(found.number));
  }

  matches(text) {
    return this.wanted.search === "" || text.toLowerCase().includes(this.wanted.search.toLowerCase());
  }
}

/** What a text is found in: functions and with them stacks, sites, tests, ids and addresses. */
function search(data, text) {
  if (text === "") return null;
  const needle = text.toLowerCase();
  const { texts, frames, stacks, sites } = data.stacks;
  const inText = texts.map((it) => it.toLowerCase().includes(needle));
  const inFrame = frames.map((frame) => inText[frame.name] || inText[frame.whole] || inText[frame.place]);
  const inSite = sites.map((site) => site.id === needle);
  const inStack = stacks.map((stack) => inSite[stack.site] || stack.frames.some((frame) => inFrame[frame]));
  const tests = data.tables.tests.map((test) => test.toLowerCase().includes(needle));
  const number = /^(0x[0-9a-f]+|[0-9]+)$/.test(needle) ? Number(needle) : null;
  return { frames: inFrame, stacks: inStack, tests, number };
}

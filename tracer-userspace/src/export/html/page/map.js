// SPDX-License-Identifier: Apache-2.0
// The map: what it shows, of which time, and what is chosen in it.

class MemoryMap {
  constructor(data, selection) {
    Object.assign(this, { data, selection, canvas: byId("map"), colours: themeColours() });
    this.view = { from: data.first, to: data.last, bottom: 0, top: 1 };
    this.least = Math.max(1, data.last * 1e-12);
    this.page = 0;
    this.chosen = null;
    this.measure = "size";
    this.toScale = false;
    this.scales = new Map();
    this.known = new Map();
    this.ranks = Uint8Array.from(data.life.state, (state) => (state & ENDLESS ? 1 : RANK[data.verdicts[state & 15].colour]));
    this.together = data.memories.length > MOST_STRIPS;
    this.painter = new Painter(this);
    this.redraw = eachFrame(() => this.painter.draw());
    this.tools();
    new Gestures(this);
    selection.onChange(() => this.refresh());
    this.refresh();
  }

  /** Works out what the filters leave. */
  refresh() {
    const { data, selection } = this;
    const { life } = data;
    const all = strips(data, selection, this.together, this.known);
    this.pages = Math.max(1, Math.ceil(all.length / MOST_STRIPS));
    this.page = Math.min(this.page, this.pages - 1);
    const weight = this.measure === "size" ? (i) => life.size[i] : (i) => Math.max(0, life.bank[i] - 1);
    this.strips = all.slice(this.page * MOST_STRIPS, (this.page + 1) * MOST_STRIPS)
      .map((strip) => ({ ...this.scaled(strip), curve: new Curve(data, strip, selection.life, weight) }));
    this.all = all.length;
    this.ribbons = this.testRows();
    this.turn();
    this.redraw();
  }

  /** A strip with its scale and bars, which no filter changes. */
  scaled(strip) {
    const key = `${strip.key} ${this.toScale}`;
    if (!this.scales.has(key)) {
      const scale = new AddressScale(this.data, strip, this.toScale);
      this.scales.set(key, { ...strip, scale, bars: new Bars(this.data, strip, scale, this.ranks) });
    }
    return this.scales.get(key);
  }

  testRows() {
    const processes = [...new Set(this.strips.map((strip) => strip.process))].slice(0, MOST_RIBBONS);
    const rows = processes.map((process) => this.data.tables.spans.filter((span) => span.process === process));
    return rows.filter((row) => row.length > 0);
  }

  tools() {
    const { data } = this;
    const button = (words, title, act) => el("button", { type: "button", title, onclick: act }, words);
    const select = (label, id, value, options, change) => el("label", {}, `${label} `, el("select", { id, onchange: (event) => {
      change(event.target.value);
      this.refresh();
    } }, options.map(([name, words]) => el("option", { value: name, selected: name === value }, words))));
    this.pager = el("span", { class: "pager" });
    replace(byId("map-tools"), this.pager,
      data.memories.length > 1 ? select("Devices", "together", this.together ? "together" : "each",
        [["each", "each by itself"], ["together", "together"]], (value) => { this.together = value === "together"; }) : null,
      data.life.bank.some((bank) => bank > 0) ? select("Curve", "measure", this.measure,
        [["size", "bytes"], ["bank", "bytes in each bank"]], (value) => { this.measure = value; }) : null,
      el("label", { class: "check", title: "Otherwise addresses that were never used take little room" },
        el("input", { type: "checkbox", id: "to-scale", onchange: (event) => {
          this.toScale = event.target.checked;
          this.refresh();
        } }), " Addresses to scale"),
      el("span", { class: "group" },
        button("−", "Zoom out (-)", () => this.zoom(1.5)),
        button("+", "Zoom in (+)", () => this.zoom(1 / 1.5)),
        button("All", "Show everything (0)", () => this.reset())));
  }

  /** The buttons from one page of strips to the next. */
  turn() {
    const go = (words, label, by, disabled) => el("button", { type: "button", "aria-label": label, disabled, onclick: () => {
      this.page += by;
      this.refresh();
    } }, words);
    replace(this.pager, this.pages < 2 ? [] : [
      go("‹", "Strips before", -1, this.page === 0),
      ` ${this.page * MOST_STRIPS + 1}–${Math.min(this.all, (this.page + 1) * MOST_STRIPS)} of ${this.all} `,
      go("›", "Strips behind", 1, this.page + 1 === this.pages)]);
  }

  /** The process whose times the axis has. */
  get process() {
    return this.data.processes.get(this.strips[0]?.process);
  }

  x(time, box) {
    return box.x + ((time - this.view.from) / (this.view.to - this.view.from)) * box.width;
  }

  time(x, box) {
    return this.view.from + ((x - box.x) / box.width) * (this.view.to - this.view.from);
  }

  eventAt(strip, box, j) {
    const { event } = this.data;
    const place = strip.scale.of(event.address[j]);
    const y = box.y + ((this.view.top - place) / (this.view.top - this.view.bottom)) * box.height;
    return [this.x(event.time[j], box), y];
  }

  zoom(factor, around = 0.5) {
    const { view, data } = this;
    const whole = data.last - data.first;
    const middle = view.from + around * (view.to - view.from);
    const span = Math.min(whole, Math.max(this.least, (view.to - view.from) * factor));
    this.moveTo(middle - around * span, span);
    this.redraw();
  }

  moveTo(from, span) {
    const { view, data } = this;
    view.from = Math.max(data.first, Math.min(from, data.last - span));
    view.to = view.from + span;
  }

  zoomAddress(factor, around = 0.5) {
    const { view } = this;
    const middle = view.bottom + around * (view.top - view.bottom);
    const span = Math.min(1, Math.max(1e-6, (view.top - view.bottom) * factor));
    view.bottom = Math.max(0, Math.min(middle - around * span, 1 - span));
    view.top = view.bottom + span;
    this.redraw();
  }

  pan(share) {
    const span = this.view.to - this.view.from;
    this.moveTo(this.view.from + share * span, span);
    this.redraw();
  }

  panAddress(share) {
    const { view } = this;
    const span = view.top - view.bottom;
    view.bottom = Math.max(0, Math.min(view.bottom + share * span, 1 - span));
    view.top = view.bottom + span;
    this.redraw();
  }

  reset() {
    Object.assign(this.view, { from: this.data.first, to: this.data.last, bottom: 0, top: 1 });
    this.redraw();
  }

  /** What is at a point of the canvas: a strip with a life or an event. */
  hit(x, y) {
    const { painter, data, selection } = this;
    for (const [index, strip] of this.strips.entries()) {
      const box = painter.place.boxes[index].map;
      if (y < box.y - 4 || y > box.y + box.height + 4 || x < box.x - 4 || x > box.x + box.width + 4) continue;
      const slack = ((this.view.to - this.view.from) / box.width) * 6;
      const time = this.time(x, box);
      let [best, least] = [-1, 49];
      for (const j of strip.events) {
        if (!selection.event[j] || Math.abs(data.event.time[j] - time) > slack) continue;
        const [ex, ey] = this.eventAt(strip, box, j);
        const away = (ex - x) ** 2 + (ey - y) ** 2;
        if (away < least) [best, least] = [j, away];
      }
      if (best >= 0) return { event: best };
      const life = strip.bars.at(painter.look(), this.view, box, x, y);
      return life < 0 ? null : { life };
    }
    return null;
  }

  open(what) {
    if (!what) return;
    this.chosen = what;
    this.redraw();
    if (what.event != null) openEvent(this.data, what.event);
    else openLife(this.data, what.life);
  }

  /** Goes to the next life or event that the filters take, by time, in the strips on the page. */
  step(by, eventsOnly) {
    const { data, selection } = this;
    const isFound = (item) => (item.event != null ? selection.isFoundEvent(item.event) : selection.isFoundLife(item.life));
    const timeOf = (item) => (item.event != null ? data.event.time[item.event] : data.life.begin[item.life]);
    const key = (item) => (item.event != null ? item.event + 0.5 : item.life);
    const now = this.chosen ? timeOf(this.chosen) : by > 0 ? this.view.from - 1 : this.view.to + 1;
    const after = (item) => {
      const away = (timeOf(item) - now) * by;
      return away > 0 || (away === 0 && this.chosen && (key(item) - key(this.chosen)) * by > 0);
    };
    let best = null;
    const consider = (item) => {
      if (!after(item) || !isFound(item)) return;
      const nearer = best === null ? 1 : (timeOf(best) - timeOf(item)) * by || (key(best) - key(item)) * by;
      if (nearer > 0) best = item;
    };
    for (const { lives, events } of this.strips) {
      for (const j of events) if (selection.event[j]) consider({ event: j });
      if (eventsOnly) continue;
      for (const i of lives) if (selection.life[i]) consider({ life: i });
    }
    if (!best) return;
    this.choose(best, timeOf(best));
  }

  choose(what, time) {
    const { data, view } = this;
    this.chosen = what;
    if (time < view.from || time > view.to) this.moveTo(time - (view.to - view.from) / 2, view.to - view.from);
    this.redraw();
    const isEvent = what.event != null;
    const rows = isEvent ? eventFacts(data, what.event) : lifeFacts(data, what.life);
    const title = isEvent ? eventTitle(data, what.event) : `${lifeTitle(data, what.life)}, ${verdictOf(data, data.life.state[what.life]).name}`;
    const words = rows.filter(([, value]) => value).map(([name, value]) => `${name.toLowerCase()} ${value}`);
    byId("map-chosen").textContent = `${title}: ${words.join(", ")}. Enter shows its stacks.`;
  }
}

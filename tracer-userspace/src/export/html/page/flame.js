// SPDX-License-Identifier: Apache-2.0
// Flame graphs: stacks by what they weigh, the outermost function on top.

const ROW = 19;
/** So many functions at least that only call one another are shown as one, until somebody wants to see them. */
const CHAIN = 4;

/** What stacks are weighed by: calls `add(stack, weight)` for each row that the filters take. */
const MEASURES = {
  held: { name: "Held to the end or to a close, bytes", show: bytes, verb: "held", weigh(data, selection, add) {
    const held = data.verdicts.map((verdict) => verdict.name === "held" || verdict.name === "bulk");
    eachLife(data, selection, (i, life) => !(life.state[i] & ENDLESS) && held[life.state[i] & 15] && add(life.stack[i], life.size[i]));
    eachEvent(data, selection, (j, event) => held[event.state[j] & 15] && add(event.allocatedStack[j], event.size[j]));
  } },
  bytes: { name: "Allocated, bytes", show: bytes, verb: "allocated", weigh(data, selection, add) {
    eachLife(data, selection, (i, life) => !(life.state[i] & FOUND) && add(life.stack[i], life.size[i]));
  } },
  allocations: { name: "Allocated, buffers", show: (value) => plural(value, "buffer"), verb: "allocated", weigh(data, selection, add) {
    eachLife(data, selection, (i, life) => !(life.state[i] & FOUND) && add(life.stack[i], 1));
  } },
  peak: { name: "Live at each memory's peak, bytes", show: bytes, verb: "live at the peak", weigh(data, selection, add) {
    const key = (row) => `${row.process} ${row.device} ${row.buffer_type}`;
    const peaks = new Map(data.report.totals.map((row) => [key(row), row.peak_time]));
    const times = data.memories.map((memory) => peaks.get(key(memory)) ?? null);
    eachLife(data, selection, (i, life) => {
      const time = times[life.memory[i]];
      if (time !== null && life.begin[i] <= time && (life.end[i] > time || staysToEnd(data, i))) add(life.stack[i], life.size[i]);
    });
  } },
  excess: { name: "Excess frees", show: (value) => plural(value, "free"), verb: "beyond the allocations", weigh(data, selection, add) {
    const excess = data.verdicts.map(({ name, colour }) => (colour === "excess" || colour === "red") && name !== "overlap");
    eachLife(data, selection, (i, life) => !(life.state[i] & ENDLESS) && excess[life.state[i] & 15] && add(life.endStack[i], 1));
    eachEvent(data, selection, (j, event) => excess[event.state[j] & 15] && add(event.stack[j], 1));
  } },
};

function eachLife({ life }, selection, take) {
  for (let i = 0; i < life.begin.length; i += 1) if (selection.life[i]) take(i, life);
}

function eachEvent({ event }, selection, take) {
  for (let j = 0; j < event.time.length; j += 1) if (selection.event[j]) take(j, event);
}

class Flame {
  constructor(data, selection) {
    Object.assign(this, { data, selection, canvas: byId("flame"), colours: themeColours() });
    this.measure = this.first();
    this.interpreter = false;
    this.redraw = eachFrame(() => this.draw());
    this.tools();
    this.listen();
    selection.onChange(() => this.refresh());
    this.refresh();
  }

  /** The first measure that has something to show: what is wrong comes first. */
  first() {
    const sum = (name) => {
      let total = 0;
      MEASURES[name].weigh(this.data, this.selection, (_, weight) => { total += weight; });
      return total;
    };
    return ["excess", "held", "bytes"].find((name) => sum(name) > 0) ?? "bytes";
  }

  tools() {
    replace(byId("flame-tools"),
      el("label", {}, "Weigh by ", el("select", { id: "weigh", onchange: (event) => {
        this.measure = event.target.value;
        this.refresh();
      } }, Object.entries(MEASURES).map(([value, { name }]) => el("option", { value, selected: value === this.measure }, name)))),
      el("label", { class: "check" }, el("input", { type: "checkbox", id: "flame-interpreter", onchange: (event) => {
        this.interpreter = event.target.checked;
        this.refresh();
      } }), " Interpreter's own functions"),
      el("button", { type: "button", id: "flame-all", onclick: () => this.focus(this.root) }, "All"));
  }

  refresh() {
    const weights = new Map();
    MEASURES[this.measure].weigh(this.data, this.selection, (stack, weight) => weights.set(stack, (weights.get(stack) ?? 0) + weight));
    this.root = this.tree(weights);
    this.focused = this.root;
    this.unfolded = new Set();
    this.redraw();
  }

  /** Stacks joined by their functions from the outermost on. */
  tree(weights) {
    const { frames, stacks, texts } = this.data.stacks;
    const root = { name: "all", kind: "root", value: 0, children: new Map(), parent: null };
    for (const [number, weight] of weights) {
      if (weight <= 0) continue;
      const stack = stacks[number];
      const hasPython = stack.frames.some((frame) => frames[frame].kind === "python");
      root.value += weight;
      let node = root;
      if (stack.frames.length === 0) node = this.child(root, "?", "no stack recorded", "interpreter", null, weight);
      for (let index = stack.frames.length - 1; index >= 0; index -= 1) {
        const frame = frames[stack.frames[index]];
        if (frame.kind === "interpreter" && hasPython && !this.interpreter) continue;
        const kind = frame.kind === "inlined" ? "native" : frame.kind;
        const key = kind === "python" ? `${frame.name} ${texts[frame.place].replace(/:\d+$/, "")}` : `${frame.name}`;
        node = this.child(node, `${kind} ${key}`, texts[frame.name], kind, stack.frames[index], weight);
      }
    }
    return root;
  }

  child(node, key, name, kind, frame, weight) {
    let child = node.children.get(key);
    if (!child) node.children.set(key, child = { name, kind, frame, value: 0, children: new Map(), parent: node });
    child.value += weight;
    return child;
  }

  focus(node) {
    this.focused = node;
    this.redraw();
    this.say();
  }

  /** A row for each function above the focused one; then what it calls. */
  layout() {
    const above = [];
    for (let node = this.focused.parent; node; node = node.parent) above.unshift(node);
    const boxes = [];
    let depth = 0;
    for (let index = 0; index < above.length; depth += 1) {
      const { chain, last } = this.chain(above[index], this.focused);
      boxes.push({ node: above[index], last, chain, row: depth, from: 0, share: 1, above: true });
      index += chain;
    }
    const place = (node, row, from, share) => {
      if (share * this.width < 0.6) return;
      const { chain, last } = this.chain(node, null);
      boxes.push({ node, last, chain, row, from, share });
      depth = Math.max(depth, row + 1);
      let at = from;
      for (const child of [...last.children.values()].sort((a, b) => b.value - a.value)) {
        place(child, row + 1, at, (share * child.value) / node.value);
        at += (share * child.value) / node.value;
      }
    };
    if (this.root.value > 0) place(this.focused, depth, 0, 1);
    return { boxes, depth };
  }

  /** How many functions from one on only call one another, before some other; and the last of them. */
  chain(node, before) {
    const { found } = this.selection;
    const alone = { chain: 1, last: node };
    if (node.kind === "root" || this.unfolded.has(node)) return alone;
    let [last, chain] = [node, 1];
    while (last.children.size === 1) {
      const [next] = last.children.values();
      // The innermost is always seen, and what was searched for.
      if (next === before || next.value !== last.value || next.children.size === 0 || next === this.chosen || (found && found.frames[next.frame])) break;
      [last, chain] = [next, chain + 1];
    }
    return chain >= CHAIN && node !== this.chosen && !(found && found.frames[node.frame]) ? { chain, last } : alone;
  }

  /** Shows the functions of a chain one by one. */
  unfold({ node, last }) {
    for (let each = last; each !== node.parent; each = each.parent) this.unfolded.add(each);
    this.redraw();
  }

  draw() {
    this.width = Math.max(300, this.canvas.parentElement.clientWidth);
    const { boxes, depth } = this.layout();
    this.boxes = boxes;
    const height = Math.max(2, depth) * ROW + 2;
    const context = sized(this.canvas, this.width, height);
    context.clearRect(0, 0, this.width, height);
    context.font = "11.5px system-ui, sans-serif";
    context.textBaseline = "middle";
    if (this.root.value === 0) {
      context.fillStyle = this.colours.soft;
      context.fillText("Nothing to weigh: no row that the filters take has any.", 8, ROW);
    }
    for (const box of boxes) this.drawBox(context, box);
    this.say();
  }

  drawBox(context, { node, last, row, from, share, above, chain }) {
    const { colours, selection, data } = this;
    const folded = chain > 1;
    const [x, y, width] = [from * this.width, row * ROW, share * this.width];
    const found = selection.found && node.frame != null && selection.found.frames[node.frame];
    context.globalAlpha = above ? 0.55 : selection.found && !found ? 0.45 : 1;
    context.fillStyle = node.kind === "root" ? colours.line : colours[node.kind];
    context.fillRect(x, y, Math.max(0.6, width - 0.8), ROW - 1.5);
    context.globalAlpha = 1;
    if (found || node === this.chosen) {
      context.strokeStyle = found ? colours.red : colours.text;
      context.lineWidth = 2;
      context.strokeRect(x + 1, y + 1, Math.max(1, width - 2.5), ROW - 3.5);
    }
    if (width < 26) return;
    const words = folded ? `${node.name}  …  ${chain - 2} more  …  ${last.name}` : node.kind === "root" ? this.total() : node.name;
    context.fillStyle = node.kind === "root" ? colours.text : colours["on-bar"];
    const fits = context.measureText(words).width <= width - 8;
    context.fillText(fitted(context, fits || folded ? words : unqualified(words), width - 8), x + 4, y + ROW / 2);
  }

  total() {
    const { show, verb } = MEASURES[this.measure];
    return `all: ${show(this.root.value)} ${verb}`;
  }

  say() {
    const { show, verb } = MEASURES[this.measure];
    const inner = this.focused.kind === "root" ? "" : ` Below ${this.focused.name}: ${show(this.focused.value)}.`;
    byId("flame-words").textContent = this.root.value === 0 ? "" : `${show(this.root.value)} ${verb}.${inner}`;
    this.canvas.setAttribute("aria-label", `Flame graph: ${MEASURES[this.measure].name}; the arrow keys go from function to function, Enter zooms`);
  }

  hit(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, row] = [(event.clientX - box.left) / this.width, Math.floor((event.clientY - box.top) / ROW)];
    return this.boxes.find((it) => it.row === row && it.from <= x && x < it.from + it.share);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("click", (event) => {
      const box = this.hit(event);
      if (box?.chain > 1) this.unfold(box);
      else if (box) this.focus(box.node);
    });
    canvas.addEventListener("pointermove", (event) => {
      const box = this.hit(event);
      canvas.style.cursor = box ? "pointer" : "default";
      if (!box || box.node.kind === "root") return hideTip();
      if (box.chain > 1) return showTip(event, `${box.chain} functions`, null, [["From", box.node.name], ["To", box.last.name], ["A click", "shows them"]]);
      showTip(event, box.node.name, null, this.nodeFacts(box.node));
    });
    canvas.addEventListener("pointerleave", () => hideTip());
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.redraw()).observe(canvas.parentElement);
  }

  nodeFacts(node) {
    const { stacks: { frames, texts } } = this.data;
    const { show, verb } = MEASURES[this.measure];
    const self = node.value - [...node.children.values()].reduce((sum, child) => sum + child.value, 0);
    const percent = ((100 * node.value) / this.root.value).toFixed(1);
    return [
      [verb[0].toUpperCase() + verb.slice(1), `${show(node.value)}, ${percent} %`],
      ["By itself", self > 0 && node.children.size > 0 ? show(self) : null],
      ["Kind", { native: "native", python: "Python", interpreter: "interpreter" }[node.kind]],
      ["Where", node.frame == null ? null : texts[frames[node.frame].place]],
    ];
  }

  key(event) {
    const heaviest = (node) => [...node.children.values()].sort((a, b) => b.value - a.value);
    const now = this.chosen && this.boxes.some((box) => box.node === this.chosen) ? this.chosen : this.focused;
    const beside = (by) => {
      const all = now.parent ? heaviest(now.parent) : [now];
      return all[all.indexOf(now) + by];
    };
    const moves = { ArrowDown: () => heaviest(now)[0], ArrowUp: () => now.parent, ArrowLeft: () => beside(-1), ArrowRight: () => beside(1) };
    if (moves[event.key]) {
      this.chosen = moves[event.key]() ?? now;
      this.redraw();
      const rows = this.chosen.kind === "root" ? [] : this.nodeFacts(this.chosen).filter(([, value]) => value);
      requestAnimationFrame(() => {
        byId("flame-words").textContent = [this.chosen.name, ...rows.map(([name, value]) => `${name.toLowerCase()} ${value}`)].join(", ");
      });
    } else if (event.key === "Enter") this.focus(now);
    else if (event.key === "0" || event.key === "Home" || event.key === "Backspace") this.focus(this.root);
    else return;
    event.preventDefault();
  }
}

/** The last level of a qualified name, with the class that it is of. */
const unqualified = (name) => (/[<(].*::/.test(name) ? name : name.split("::").slice(-2).join("::"));

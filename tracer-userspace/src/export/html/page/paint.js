// SPDX-License-Identifier: Apache-2.0
// The map as a picture: for each strip a curve of what is live, and below it address against time, under a ribbon of tests.

const GUTTER = 114;
const MARGIN = 12;
const RIBBON = 20;
const AXIS = 26;
/** Strips on one page of the map, and rows of tests. */
const MOST_STRIPS = 6;
const MOST_RIBBONS = 3;

class Painter {
  constructor(map) {
    this.map = map;
  }

  draw() {
    const layout = this.place = this.layout();
    const context = sized(this.map.canvas, layout.width, layout.height);
    const { colours } = this.map;
    context.clearRect(0, 0, layout.width, layout.height);
    context.font = "11px system-ui, sans-serif";
    this.drawTests(context, layout);
    this.drawTimes(context, layout);
    let shown = 0;
    const look = this.look();
    this.map.strips.forEach((strip, index) => {
      const { curve, map } = layout.boxes[index];
      this.drawGutter(context, strip, curve, map);
      strip.curve.draw(context, colours, this.map.view, curve, strip.curve.peak);
      this.drawPeak(context, strip, curve);
      shown += strip.bars.draw(context, look, this.map.view, map);
      shown += this.drawEvents(context, look, strip, map);
      context.strokeStyle = colours.line;
      context.lineWidth = 1;
      context.strokeRect(map.x - 0.5, map.y - 0.5, map.width + 1, map.height + 1);
    });
    if (this.map.strips.length === 0) {
      context.fillStyle = colours.soft;
      context.fillText(this.map.data.memories.length ? "No buffer matches the filters." : "No buffer was allocated or freed.", GUTTER, 40);
    }
    this.drawDragged(context, layout);
    this.say(shown);
  }

  /** How lives look: whether they are shown, and in which colours. */
  look() {
    const { selection, colours } = this.map;
    const css = [colours.normal, colours.yellow, colours.excess, colours.red];
    return {
      shown: selection.life, ranks: this.map.ranks, css, colours, chosen: this.map.chosen?.life,
      found: selection.found ? (i) => selection.isFoundLife(i) : () => true,
      solid: css.map((colour) => packedColour(colour, 255)),
      pale: css.map((colour) => packedColour(colour, 46)),
    };
  }

  drawTests(context, layout) {
    const { colours, data, selection } = this.map;
    const box = { x: GUTTER, width: layout.inner };
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, layout.inner, layout.bottom);
    context.clip();
    this.map.ribbons.forEach((row, index) => {
      row.forEach((span, place) => {
        const [x0, x1] = [this.map.x(span.first, box), this.map.x(span.last, box)];
        if (x1 < GUTTER || x0 > GUTTER + layout.inner || (x1 - x0 < 0.3 && row.length > 2000)) return;
        const name = data.tables.tests[span.test];
        const wanted = selection.wanted.test === name;
        context.fillStyle = wanted || place % 2 === 0 ? colours.band : colours.panel;
        const alone = this.map.ribbons.length === 1 && (wanted || x1 - x0 > 24);
        const bottom = alone ? layout.bottom : RIBBON - 3;
        context.fillRect(x0, index * RIBBON, Math.max(1, x1 - x0), bottom);
        context.fillStyle = wanted ? colours.curve : colours.line;
        context.fillRect(x0, index * RIBBON, 1, bottom);
        context.fillStyle = colours.soft;
        const from = Math.max(x0, GUTTER);
        const room = Math.min(x1, GUTTER + layout.inner) - from - 8;
        if (room > 24) {
          const words = shortTest(name);
          const fits = context.measureText(words).width <= room;
          // Neighbours are mostly of one file: the function tells them apart.
          const shown = fits ? words : words.replace(/^.*?::/, "");
          context.fillText(fitted(context, shown, room), from + 4, index * RIBBON + 12);
        }
      });
    });
    context.restore();
    context.fillStyle = colours.soft;
    this.map.ribbons.forEach((row, index) => {
      const words = this.map.ribbons.length > 1 ? `tests, process ${row[0].process}` : "tests";
      context.textAlign = "right";
      context.fillText(words, GUTTER - 8, index * RIBBON + 12);
      context.textAlign = "left";
    });
  }

  drawTimes(context, layout) {
    const { colours, view, data } = this.map;
    const box = { x: GUTTER, width: layout.inner };
    const process = this.map.process;
    const { step, at } = ticks(view.from, view.to, Math.max(2, layout.inner / 110));
    context.textAlign = "center";
    for (const tick of at) {
      const x = Math.round(this.map.x(tick, box)) + 0.5;
      context.strokeStyle = colours.line;
      context.globalAlpha = 0.6;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, this.map.ribbons.length * RIBBON);
      context.lineTo(x, layout.bottom);
      context.stroke();
      context.globalAlpha = 1;
      context.fillStyle = colours.soft;
      if (x < layout.width - 34) context.fillText(moment(tick, process, step), x, layout.bottom + 15);
    }
    context.textAlign = "left";
    context.fillText(CLOCKS[process?.origin] ? "in the source" : "after start", 8, layout.bottom + 15);
  }

  drawGutter(context, strip, curve, map) {
    const { colours, view } = this.map;
    const { scale } = strip;
    context.textAlign = "right";
    context.fillStyle = colours.text;
    context.font = "600 12px system-ui, sans-serif";
    context.fillText(fitted(context, strip.title, GUTTER - 14), GUTTER - 8, curve.y + 11);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colours.soft;
    const below = [strip.words, this.map.data.processes.size > 1 ? `process ${strip.process}` : ""].filter((words) => words !== "");
    below.forEach((words, index) => context.fillText(words, GUTTER - 8, curve.y + 25 + 13 * index));
    for (const tick of byteTicks(strip.curve.peak, Math.max(1, curve.height / 34))) {
      const y = curve.y + curve.height - (tick / strip.curve.peak) * (curve.height - 1);
      context.strokeStyle = colours.line;
      context.beginPath();
      context.moveTo(curve.x, Math.round(y) + 0.5);
      context.lineTo(curve.x + curve.width, Math.round(y) + 0.5);
      context.stroke();
      if (y > curve.y + 25 + 13 * below.length) context.fillText(bytes(tick), GUTTER - 8, y + 4);
    }
    let last = Infinity;
    const every = Math.max(1, Math.floor(map.height / 24));
    for (let index = 0; index <= every; index += 1) {
      const place = view.bottom + ((view.top - view.bottom) * index) / every;
      const near = scale.near(place);
      const y = map.y + map.height - ((scale.of(near) - view.bottom) / (view.top - view.bottom)) * map.height;
      if (y > map.y + map.height || y < map.y + 6 || last - y < 14) continue;
      last = y;
      context.fillText(hex(near), GUTTER - 8, y);
    }
    context.textAlign = "left";
  }

  /** What the top of a curve is, on a ground of its own. */
  drawPeak(context, { curve: { peak } }, box) {
    if (peak === 0) return;
    const words = `at most ${bytes(peak)}`;
    context.globalAlpha = 0.8;
    context.fillStyle = this.map.colours.panel;
    context.fillRect(box.x + 3, box.y + 1, context.measureText(words).width + 6, 14);
    context.globalAlpha = 1;
    context.fillStyle = this.map.colours.soft;
    context.fillText(words, box.x + 6, box.y + 12);
  }

  /** Events as diamonds; of many at one place, one. */
  drawEvents(context, look, strip, box) {
    const { data, selection, view } = this.map;
    const { event } = data;
    const taken = new Set();
    let shown = 0;
    context.save();
    context.beginPath();
    context.rect(box.x - 6, box.y - 6, box.width + 12, box.height + 12);
    context.clip();
    for (const j of strip.events) {
      if (!selection.event[j] || event.time[j] < view.from || event.time[j] > view.to) continue;
      shown += 1;
      const [x, y] = this.map.eventAt(strip, box, j);
      const rank = RANK[verdictOf(data, event.state[j]).colour];
      const cell = (Math.round(x / 3) * 4096 + Math.round(y / 3)) * 4 + rank;
      if (taken.has(cell) && this.map.chosen?.event !== j) continue;
      taken.add(cell);
      const size = this.map.chosen?.event === j ? 7 : 4.5;
      context.globalAlpha = selection.isFoundEvent(j) ? 1 : 0.2;
      context.beginPath();
      context.moveTo(x, y - size);
      context.lineTo(x + size, y);
      context.lineTo(x, y + size);
      context.lineTo(x - size, y);
      context.closePath();
      context.fillStyle = look.css[rank];
      context.fill();
      context.strokeStyle = this.map.chosen?.event === j ? this.map.colours.text : this.map.colours.panel;
      context.lineWidth = this.map.chosen?.event === j ? 2 : 1;
      context.stroke();
    }
    context.restore();
    return shown;
  }

  drawDragged(context, layout) {
    const drag = this.map.drag;
    if (!drag || drag.kind === "pan") return;
    const [x0, x1] = [drag.x, drag.toX].sort((a, b) => a - b);
    context.fillStyle = this.map.colours["curve-fill"];
    context.strokeStyle = this.map.colours.curve;
    const box = drag.kind === "box" ? [x0, Math.min(drag.y, drag.toY), x1 - x0, Math.abs(drag.toY - drag.y)] : [x0, 0, x1 - x0, layout.bottom];
    context.fillRect(...box);
    context.strokeRect(...box);
  }

  say(shown) {
    const { view, data } = this.map;
    const process = this.map.process;
    const step = (view.to - view.from) / 1000;
    const peaks = this.map.strips.map((strip) => `${strip.title} at most ${bytes(strip.curve.peak)}`);
    const many = this.map.strips.length < 4 ? `; ${peaks.join(", ")}` : "";
    byId("map-words").textContent = `${moment(view.from, process, step)} to ${moment(view.to, process, step)}: `
      + `${plural(shown, "life or event", "lives and events")} in view${this.map.strips.length ? many : ""}.`;
    this.map.canvas.setAttribute("aria-label", `Memory map of ${plural(this.map.strips.length, "strip")}; the arrow keys move, plus and minus zoom, N and P go from one buffer to the next`);
  }

  /** Where everything is, in CSS pixels. */
  layout() {
    const width = Math.max(320, this.map.canvas.parentElement.clientWidth);
    const many = this.map.strips.length;
    const roomy = many < 2 ? [88, 330] : many < 3 ? [64, 190] : many < 5 ? [48, 120] : [40, 84];
    let y = this.map.ribbons.length * RIBBON + 6;
    const inner = width - GUTTER - MARGIN;
    const boxes = this.map.strips.map(() => {
      const curve = { x: GUTTER, y, width: inner, height: roomy[0] };
      const map = { x: GUTTER, y: y + roomy[0] + 3, width: inner, height: roomy[1] };
      y = map.y + map.height + 16;
      return { curve, map };
    });
    return { width, inner, boxes, bottom: Math.max(y - 10, 60), height: Math.max(y - 10, 60) + AXIS };
  }
}

/** A test's id without its folders. */
const shortTest = (name) => name.replace(/^.*\/(?=[^/]*::)/, "");

/** A CSS colour as a pixel of image data. */
function packedColour(colour, alpha) {
  const [r, g, b] = colour.match(/[0-9a-f]{2}/gi).map((digits) => parseInt(digits, 16));
  return ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

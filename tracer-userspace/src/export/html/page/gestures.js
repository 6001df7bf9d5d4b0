// SPDX-License-Identifier: Apache-2.0
// What the mouse, the wheel and the keys do to the map.

class Gestures {
  constructor(map) {
    this.map = map;
    this.listen();
  }

  get place() {
    return this.map.painter.place;
  }

  listen() {
    const { canvas } = this.map;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("wheel", (event) => {
      const [x, y] = at(event);
      if (x < GUTTER || !this.map.strips.length) return;
      event.preventDefault();
      const factor = Math.exp(Math.sign(event.deltaY) * Math.min(0.4, Math.abs(event.deltaY) / 400));
      const box = this.place.boxes.map((it) => it.map).find((it) => y >= it.y && y <= it.y + it.height);
      if (event.altKey && box) this.map.zoomAddress(factor, 1 - (y - box.y) / box.height);
      else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.map.pan((event.deltaX || event.deltaY) / 800);
      else this.map.zoom(factor, Math.min(1, Math.max(0, (x - GUTTER) / this.place.inner)));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      const [x, y] = at(event);
      const map = this.place.boxes.map((it) => it.map).find((it) => y >= it.y && y <= it.y + it.height);
      const kind = !map ? "span" : event.shiftKey ? "box" : "pan";
      this.map.drag = { kind, map, x, y, toX: x, toY: y, moved: false, from: this.map.view.from, bottom: this.map.view.bottom };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      if (!this.map.drag) return this.hover(x, y, event);
      this.dragTo(x, y);
    });
    canvas.addEventListener("pointerup", (event) => this.drop(...at(event)));
    canvas.addEventListener("pointercancel", () => { this.map.drag = null; });
    canvas.addEventListener("pointerleave", () => hideTip());
    canvas.addEventListener("dblclick", () => this.map.reset());
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.map.redraw()).observe(canvas.parentElement);
  }

  dragTo(x, y) {
    const { place, map: { drag, view } } = this;
    hideTip();
    drag.moved ||= Math.abs(x - drag.x) + Math.abs(y - drag.y) > 3;
    [drag.toX, drag.toY] = [x, y];
    if (drag.kind === "pan" && drag.moved) {
      this.map.moveTo(drag.from - ((x - drag.x) / place.inner) * (view.to - view.from), view.to - view.from);
      const span = view.top - view.bottom;
      view.bottom = Math.max(0, Math.min(drag.bottom + ((y - drag.y) / drag.map.height) * span, 1 - span));
      view.top = view.bottom + span;
    }
    this.map.redraw();
  }

  drop(x, y) {
    const { place, map: { drag, view } } = this;
    this.map.drag = null;
    if (!drag) return;
    const box = { x: GUTTER, width: place.inner };
    if (!drag.moved) return this.map.open(this.map.hit(x, y));
    if (drag.kind === "pan") return;
    const times = [drag.x, drag.toX].map((at) => this.map.time(at, box)).sort((a, b) => a - b);
    if (drag.kind === "box") {
      const share = (at) => view.top - ((at - drag.map.y) / drag.map.height) * (view.top - view.bottom);
      const [bottom, top] = [drag.y, drag.toY].map(share).sort((a, b) => a - b);
      [view.bottom, view.top] = [Math.max(0, bottom), Math.min(1, Math.max(top, bottom + 1e-6))];
    }
    this.map.moveTo(times[0], Math.max(this.map.least, times[1] - times[0]));
    this.map.redraw();
  }

  hover(x, y, event) {
    const what = this.map.hit(x, y);
    this.map.canvas.style.cursor = what ? "pointer" : "crosshair";
    if (what?.event != null) showTip(event, eventTitle(this.map.data, what.event), verdictOf(this.map.data, this.map.data.event.state[what.event]), eventFacts(this.map.data, what.event));
    else if (what) showTip(event, lifeTitle(this.map.data, what.life), verdictOf(this.map.data, this.map.data.life.state[what.life]), lifeFacts(this.map.data, what.life));
    else this.hoverElsewhere(x, y, event);
  }

  hoverElsewhere(x, y, event) {
    const { place, map: { data } } = this;
    const box = { x: GUTTER, width: place.inner };
    const time = this.map.time(x, box);
    const index = place.boxes.findIndex((it) => y >= it.curve.y && y < it.curve.y + it.curve.height);
    if (index >= 0 && x > GUTTER) {
      const { title, process, curve } = this.map.strips[index];
      const rows = [["Live", bytes(curve.at(time))], ["At", moment(time, data.processes.get(process))], ["At most", bytes(curve.peak)]];
      return showTip(event, title, null, rows);
    }
    const span = this.map.ribbons[Math.floor(y / RIBBON)]?.findLast((it) => it.first <= time && time <= it.last);
    if (span && x > GUTTER) return showTip(event, data.tables.tests[span.test], null, [["Ran", age(span.last - span.first, data.processes.get(span.process))]]);
    hideTip();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => this.map.pan(-0.15), ArrowRight: () => this.map.pan(0.15),
      ArrowUp: () => this.map.panAddress(0.15), ArrowDown: () => this.map.panAddress(-0.15),
      "+": () => this.map.zoom(1 / 1.5), "=": () => this.map.zoom(1 / 1.5), "-": () => this.map.zoom(1.5),
      "]": () => this.map.zoomAddress(1 / 1.5), "[": () => this.map.zoomAddress(1.5),
      0: () => this.map.reset(), Home: () => this.map.reset(),
      n: () => this.map.step(1), p: () => this.map.step(-1), e: () => this.map.step(1, true), E: () => this.map.step(-1, true),
      Enter: () => this.map.open(this.map.chosen),
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

function showTip(event, title, verdict, rows) {
  const tip = byId("tip");
  replace(tip, el("p", { class: "tip-title" }, title, verdict ? chip(verdict) : null), facts(rows));
  tip.hidden = false;
  const { offsetWidth, offsetHeight } = tip;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, window.innerWidth - offsetWidth - 8))}px`;
  const below = event.clientY + 16;
  tip.style.top = `${below + offsetHeight > window.innerHeight ? Math.max(4, event.clientY - offsetHeight - 10) : below}px`;
}

const hideTip = () => { byId("tip").hidden = true; };

// SPDX-License-Identifier: Apache-2.0
// Lives as bars in one strip of the map: drawn one by one while they are few, else pixel by pixel.

/** More bars than this are drawn pixel by pixel. */
const FEW = 4000;
const RANK = { normal: 0, yellow: 1, excess: 2, red: 3 };

/** The lives of one strip, ready to be drawn. */
class Bars {
  constructor(data, { lives }, scale, ranks) {
    Object.assign(this, { data, lives });
    const { length } = lives;
    this.ranks = Uint8Array.from(lives, (i) => ranks[i]);
    this.present = new Set(this.ranks);
    this.end = Float64Array.from(lives, (i) => data.life.end[i]);
    this.low = new Float32Array(length);
    this.high = new Float32Array(length);
    this.latest = new Float64Array(Math.ceil(length / BLOCK)).fill(-Infinity);
    const { life } = data;
    this.begin = Float64Array.from(lives, (i) => life.begin[i]);
    for (let k = 0; k < length; k += 1) {
      const i = lives[k];
      this.low[k] = scale.of(life.address[i]);
      this.high[k] = Math.max(this.low[k], scale.of(life.address[i] + scale.extent(life, i)));
      const block = Math.floor(k / BLOCK);
      if (this.end[k] > this.latest[block]) this.latest[block] = this.end[k];
    }
  }

  /** Calls for each life in a time, in the order of their begin. */
  visit(from, to, take) {
    const end = lowerBound(this.begin, to, 0, this.begin.length);
    for (let block = 0; block * BLOCK < end; block += 1) {
      if (this.latest[block] < from) continue;
      for (let k = block * BLOCK; k < Math.min(end, (block + 1) * BLOCK); k += 1) {
        if (this.end[k] >= from) take(k, this.lives[k]);
      }
    }
  }

  /** Draws into a box; gives how many lives were in it. */
  draw(context, look, view, box) {
    const { begin, end, lives, latest } = this;
    const few = [];
    let shown = 0;
    const last = lowerBound(begin, view.to, 0, begin.length);
    for (let k = 0; k < last; k += 1) {
      if (k % BLOCK === 0 && latest[k / BLOCK] < view.from) k += BLOCK - 1;
      else if (end[k] >= view.from && look.shown[lives[k]] === 1) {
        shown += 1;
        if (few.length <= FEW) few.push(k);
      }
    }
    if (few.length <= FEW) this.drawEach(context, look, view, box, few);
    else this.drawPixels(context, look, view, box);
    return shown;
  }

  /** Where a life is in a box. */
  bar(k, view, box) {
    const { life } = this.data;
    const i = this.lives[k];
    const wide = box.width / (view.to - view.from);
    const high = box.height / (view.top - view.bottom);
    const x0 = Math.max(-2, (life.begin[i] - view.from) * wide);
    const x1 = Math.min(box.width + 2, (life.end[i] - view.from) * wide);
    const y0 = (view.top - this.high[k]) * high;
    const y1 = (view.top - this.low[k]) * high;
    return { x: box.x + x0, y: box.y + y0, width: Math.max(1, x1 - x0), height: Math.max(2, y1 - y0) };
  }

  drawEach(context, look, view, box, few) {
    const { data: { life } } = this;
    context.save();
    context.beginPath();
    context.rect(box.x, box.y, box.width, box.height);
    context.clip();
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const rank = (k) => look.ranks[this.lives[k]];
    few.sort((a, b) => rank(a) - rank(b) || a - b);
    for (const k of few) {
      const i = this.lives[k];
      const bar = this.bar(k, view, box);
      const gap = bar.width > 3 && bar.height > 4 ? 1 : 0;
      context.globalAlpha = look.found(i) ? 1 : 0.18;
      context.fillStyle = look.css[rank(k)];
      context.fillRect(bar.x, bar.y, bar.width - gap, bar.height - gap);
      if (look.chosen === i) {
        context.strokeStyle = look.colours.text;
        context.lineWidth = 2;
        context.strokeRect(bar.x + 1, bar.y + 1, Math.max(1, bar.width - 2), Math.max(1, bar.height - 2));
      }
      if (bar.height >= 14 && bar.width >= 48) {
        const begin = Math.max(bar.x, box.x) + 5;
        const room = Math.min(bar.x + bar.width, box.x + box.width) - begin - 5;
        const label = `${bytes(life.size[i])}, buffer ${life.id[i]}`;
        const text = context.measureText(label).width <= room ? label : bytes(life.size[i]);
        if (context.measureText(text).width <= room) {
          context.fillStyle = look.colours["on-bar"];
          context.fillText(text, begin, bar.y + bar.height / 2);
        }
      }
    }
    context.restore();
  }

  /** Each pixel is written once by each rank: in a row, what begins later only adds behind what is there. */
  drawPixels(context, look, view, box) {
    const ratio = context.getTransform().a;
    const [width, height] = [Math.floor(box.width * ratio), Math.floor(box.height * ratio)];
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (const rank of [...this.present].sort()) this.fill(pixels, width, height, rank, look, view);
    context.putImageData(image, Math.round(box.x * ratio), Math.round(box.y * ratio));
  }

  fill(pixels, width, height, rank, look, view) {
    const { lives, begin, end, ranks, low, high, latest } = this;
    const { shown } = look;
    const { from, to, top, bottom } = view;
    const filled = new Int32Array(height);
    const [wide, tall] = [width / (to - from), height / (top - bottom)];
    const last = lowerBound(begin, to, 0, begin.length);
    for (let k = 0; k < last; k += 1) {
      if (k % BLOCK === 0 && latest[k / BLOCK] < from) {
        k += BLOCK - 1;
        continue;
      }
      if (end[k] < from || ranks[k] !== rank || shown[lives[k]] === 0) continue;
      const x0 = Math.max(0, Math.floor((begin[k] - from) * wide));
      const x1 = Math.min(width, Math.max(x0 + 1, Math.ceil((end[k] - from) * wide)));
      const y0 = Math.max(0, Math.floor((top - high[k]) * tall));
      const y1 = Math.min(height, Math.max(y0 + 2, Math.ceil((top - low[k]) * tall)));
      if (y0 >= y1 || (filled[y0] >= x1 && filled[y1 - 1] >= x1)) continue;
      const colour = look.found(lives[k]) ? look.solid[rank] : look.pale[rank];
      for (let y = y0; y < y1; y += 1) {
        for (let at = y * width + Math.max(x0, filled[y]); at < y * width + x1; at += 1) pixels[at] = colour;
        if (filled[y] < x1) filled[y] = x1;
      }
    }
  }

  /** The life under a point: of several, the thinnest. */
  at(look, view, box, x, y) {
    const slack = ((view.to - view.from) / box.width) * 2;
    const time = view.from + ((x - box.x) / box.width) * (view.to - view.from);
    const place = view.top - ((y - box.y) / box.height) * (view.top - view.bottom);
    const reach = (2 / box.height) * (view.top - view.bottom);
    let best = -1;
    let least = Infinity;
    this.visit(time - slack, time + slack, (k, i) => {
      if (!look.shown[i] || place < this.low[k] - reach || place > this.high[k] + reach) return;
      const inside = this.data.life.begin[i] <= time && time <= this.data.life.end[i] ? 0 : 2;
      const size = this.high[k] - this.low[k] + inside;
      if (size <= least) [best, least] = [i, size];
    });
    return best;
  }
}

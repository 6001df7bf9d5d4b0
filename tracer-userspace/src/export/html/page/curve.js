// SPDX-License-Identifier: Apache-2.0
// Bytes live over time, as steps.

const BLOCK = 256;

/** Steps of one strip: after `times[i]`, `values[i]` bytes are live. Blocks of them have their least and most. */
class Curve {
  constructor(data, { lives, ends }, shown, weight) {
    const { life } = data;
    this.times = new Float64Array(2 * lives.length);
    this.values = new Float64Array(2 * lives.length);
    this.length = 0;
    this.peak = 0;
    this.peakTime = null;
    let live = 0;
    let begun = 0;
    for (const i of ends) {
      // What ends at the moment at which others begin made room for them, unless it is one of them.
      while (begun < lives.length && (life.begin[lives[begun]] < life.end[i] || lives[begun] <= i)) {
        const next = lives[begun];
        if (shown[next]) live = this.step(life.begin[next], live + weight(next));
        begun += 1;
      }
      if (shown[i] && !staysToEnd(data, i)) live = this.step(life.end[i], live - weight(i));
    }
    this.summarize();
  }

  step(time, live) {
    this.times[this.length] = time;
    this.values[this.length] = live;
    this.length += 1;
    if (live > this.peak) [this.peak, this.peakTime] = [live, time];
    return live;
  }

  summarize() {
    const blocks = Math.ceil(this.length / BLOCK);
    this.least = new Float64Array(blocks).fill(Infinity);
    this.most = new Float64Array(blocks);
    for (let i = 0; i < this.length; i += 1) {
      const block = Math.floor(i / BLOCK);
      this.least[block] = Math.min(this.least[block], this.values[i]);
      this.most[block] = Math.max(this.most[block], this.values[i]);
    }
  }

  /** The value at a time. */
  at(time) {
    const place = this.after(time);
    return place === 0 ? 0 : this.values[place - 1];
  }

  /** The first step behind a time. */
  after(time) {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.times[middle] <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Least and most from one step to before another. */
  between(from, to, start) {
    let [least, most] = [start, start];
    let i = from;
    while (i < to) {
      if (i % BLOCK === 0 && i + BLOCK <= to) {
        const block = i / BLOCK;
        least = Math.min(least, this.least[block]);
        most = Math.max(most, this.most[block]);
        i += BLOCK;
      } else {
        least = Math.min(least, this.values[i]);
        most = Math.max(most, this.values[i]);
        i += 1;
      }
    }
    return [least, most];
  }

  /** Draws into a box, from `view.from` to `view.to`, up to `top` bytes. */
  draw(context, colours, view, box, top) {
    const { x, y, width, height } = box;
    const up = (value) => y + height - (top > 0 ? (value / top) * (height - 1) : 0);
    const span = (view.to - view.from) / width;
    context.beginPath();
    context.moveTo(x, y + height);
    const line = new Path2D();
    let place = this.after(view.from);
    let value = place === 0 ? 0 : this.values[place - 1];
    line.moveTo(x, up(value));
    context.lineTo(x, up(value));
    for (let column = 0; column < width && place < this.length; column += 1) {
      const next = this.after(view.from + (column + 1) * span);
      if (next > place) {
        const [least, most] = this.between(place, next, value);
        value = this.values[next - 1];
        place = next;
        for (const at of [most, least, value]) {
          line.lineTo(x + column, up(at));
        }
        context.lineTo(x + column, up(most));
      }
      line.lineTo(x + column + 1, up(value));
      context.lineTo(x + column + 1, up(value));
    }
    line.lineTo(x + width, up(value));
    context.lineTo(x + width, up(value));
    context.lineTo(x + width, y + height);
    context.closePath();
    context.fillStyle = colours["curve-fill"];
    context.fill();
    context.strokeStyle = colours.curve;
    context.lineWidth = 1.25;
    context.stroke(line);
  }
}

/** Whether a life goes on to the end of what is recorded. */
function staysToEnd(data, i) {
  const state = data.life.state[i];
  return (state & ENDLESS) !== 0 || data.verdicts[state & 15].name === "held";
}

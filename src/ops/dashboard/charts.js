// Charts over time, drawn as SVG: stacked columns for what is counted, step lines for what is measured.

import { t, clock } from './texts.js';

const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 170;
const EDGE = { top: 8, right: 8, bottom: 22, left: 40 };

function svg(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
}

function html(name, className, parent, text) {
  const node = document.createElement(name);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  parent?.append(node);
  return node;
}

/** The smallest of 1, 2, 5 × 10ⁿ steps with which about four reach `max`. */
function niceStep(max) {
  const raw = max / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map(f => f * power).find(step => step >= raw);
}

/** The seconds of a column of counts. Whole minutes: what it shows is what the quota counts. */
const MINUTE = 60;
/** Seconds without a value over which a line of what comes now and then is still drawn through. */
const BRIDGED = 180;

const nameOf = series => (typeof series.name === 'function' ? series.name() : t()[series.name]);

/**
 * One chart. `series` are `{ column, name: 'key of a text' or a function, tone: a class, area?, thin? }`;
 * `stacked` sums counts into columns of a minute; `sparse` draws what has a value now and then; `least` is the least height
 * of the scale, `most` a bound on it; `limit` names the column that is drawn as a limit.
 */
export class Chart {
  constructor(id, title, series, { stacked = false, sparse = false, least = 4, most = Infinity, format, shade = false, limit = null }) {
    Object.assign(this, { title, series, stacked, sparse, least, most, shade, limit });
    this.format = value => (value === null ? '–' : format(value));
    this.box = html('div', 'chart', document.getElementById(id));
    this.svg = svg('svg', { role: 'img', tabindex: '0', preserveAspectRatio: 'none' }, this.box);
    this.tip = html('div', 'tip', this.box);
    this.tip.hidden = true;
    this.legend = html('ul', 'legend', document.getElementById(id));
    this.points = [];
    this.pointed = null;
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.svg.addEventListener('pointermove', event => {
      const at = event.clientX - this.svg.getBoundingClientRect().left;
      const away = mark => Math.abs(mark.x - at);
      this.point(this.marks?.reduce((best, mark, i) => (away(mark) < away(this.marks[best]) ? i : best), 0));
    });
    this.svg.addEventListener('pointerleave', () => this.point(null));
    this.svg.addEventListener('blur', () => this.point(null));
    this.svg.addEventListener('keydown', event => {
      const last = (this.marks?.length ?? 0) - 1;
      const from = this.pointed ?? last;
      const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Escape: null }[event.key];
      if (to === undefined || last < 0) return;
      event.preventDefault();
      this.point(to === null ? null : Math.min(last, Math.max(0, to)));
    });
  }

  /** Shows these points (objects, oldest first) of the `range` seconds before `now`. */
  show(points, now, range, step) {
    const from = this.stacked ? Math.floor((now - range) / MINUTE) * MINUTE : now - range;
    Object.assign(this, { points: points.filter(p => p.at > from), now, range, step });
    this.draw();
  }

  draw() {
    const width = Math.floor(this.box.clientWidth);
    if (!width || !this.range) return;
    this.width = width;
    this.marks = this.stacked ? this.columns() : this.sparse ? this.groups() : this.measures();
    const x = at => EDGE.left + (1 - (this.now - at) / this.range) * (width - EDGE.left - EDGE.right);
    for (const mark of this.marks) {
      mark.left = Math.max(EDGE.left, x(mark.from));
      mark.right = Math.min(width - EDGE.right, x(mark.at));
      mark.x = (mark.left + mark.right) / 2;
    }
    this.marks = this.marks.filter(mark => mark.right > mark.left);
    const tall = mark => (this.stacked ? mark.values.reduce((a, b) => a + b, 0) : Math.max(0, ...mark.values));
    const limit = (this.limit && this.points.at(-1)?.[this.limit]) || 0;
    const peak = Math.max(this.least, limit, ...this.marks.map(tall));
    const unit = niceStep(Math.min(peak, this.most));
    const top = Math.min(this.most, Math.ceil(peak / unit - 1e-9) * unit);
    const bottom = HEIGHT - EDGE.bottom;
    this.y = value => bottom - (Math.min(value, top) / top) * (bottom - EDGE.top);

    this.svg.replaceChildren();
    this.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    if (this.shade) this.drawShades(bottom);
    for (let value = 0; value <= top + unit / 1e6; value += unit) {
      const y = Math.round(this.y(value)) + 0.5;
      svg('line', { class: 'grid', x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y }, this.svg);
      svg('text', { x: EDGE.left - 7, y: y + 4, 'text-anchor': 'end' }, this.svg).textContent = this.format(value);
    }
    this.drawTimes(x);
    if (this.stacked) this.drawColumns(bottom); else this.drawLines(bottom);
    if (limit) this.drawLimit(limit);
    this.cursor = svg('line', { class: 'cursor', y1: EDGE.top, y2: bottom, visibility: 'hidden' }, this.svg);
    this.describe();
    this.point(this.pointed === null ? null : Math.min(this.pointed, this.marks.length - 1));
  }

  /** Each point as it was measured. */
  measures() {
    return this.points.map(p => ({
      at: p.at, from: p.at - this.step, values: this.series.map(s => p[s.column] ?? null), shaded: p.retreat_state > 0,
    }));
  }

  /** Counts summed into columns of a minute; the present one grows. */
  columns() {
    const columns = new Map();
    for (const p of this.points) {
      const at = Math.ceil(p.at / MINUTE) * MINUTE;
      if (!columns.has(at)) columns.set(at, { at, from: at - MINUTE, values: this.series.map(() => 0) });
      this.series.forEach((s, i) => { columns.get(at).values[i] += p[s.column] ?? 0; });
    }
    return [...columns.values()];
  }

  /** Some sixty groups of points, each with the largest value of each series; `null` where it has none. */
  groups() {
    const wide = Math.max(this.step, this.range / 60);
    const groups = new Map();
    for (const p of this.points) {
      const at = Math.ceil(p.at / wide) * wide;
      if (!groups.has(at)) groups.set(at, { at, from: at - wide, values: this.series.map(() => null) });
      const values = groups.get(at).values;
      this.series.forEach((s, i) => {
        const value = p[s.column] ?? null;
        if (value !== null) values[i] = Math.max(value, values[i] ?? 0);
      });
    }
    return [...groups.values()];
  }

  drawLimit(limit) {
    const y = Math.round(this.y(limit)) + 0.5;
    svg('line', { class: 'limit', x1: EDGE.left, x2: this.width - EDGE.right, y1: y, y2: y }, this.svg);
    const label = svg('text', { class: 'limit-label', x: this.width - EDGE.right - 4, y: y - 4, 'text-anchor': 'end' }, this.svg);
    label.textContent = t().limit(this.format(limit));
  }

  drawTimes(x) {
    // Whole minutes: three labels where it is narrow, six at most where it is wide.
    const most = this.width < 420 ? 3 : 6;
    const every = [60, 120, 180, 300, 600, 1200].find(seconds => this.range / seconds <= most);
    for (let at = Math.ceil((this.now - this.range) / every) * every; at <= this.now; at += every) {
      const place = x(at);
      if (place < EDGE.left + 12 || place > this.width - EDGE.right - 12) continue;
      svg('text', { x: place, y: HEIGHT - 5, 'text-anchor': 'middle' }, this.svg).textContent = clock(at);
    }
  }

  drawShades(bottom) {
    for (const mark of this.marks.filter(m => m.shaded)) {
      const place = { x: mark.left, width: mark.right - mark.left, y: EDGE.top, height: bottom - EDGE.top };
      svg('rect', { class: 'shade', ...place }, this.svg);
    }
  }

  drawColumns(bottom) {
    for (const mark of this.marks) {
      let base = 0;
      const gap = mark.right - mark.left > 4 ? 1 : 0;
      mark.values.forEach((value, i) => {
        if (!value) return;
        const y = this.y(base + value);
        const height = this.y(base) - y;
        const width = Math.max(0.5, mark.right - mark.left - gap);
        const place = { x: mark.left, width, y, height: Math.min(height, bottom - y) };
        svg('rect', { class: `fill-${this.series[i].tone}`, ...place }, this.svg);
        base += value;
      });
    }
  }

  drawLines(bottom) {
    this.series.forEach((s, i) => {
      let line = '';
      let area = '';
      let before = null;
      for (const mark of this.marks) {
        if (mark.values[i] === null) continue;
        const y = this.y(mark.values[i]).toFixed(1);
        const joined = before && mark.from - before.at < (this.sparse ? BRIDGED : 2 * this.step);
        if (!joined && before) area += `V${bottom}Z`;
        line += `${joined ? 'L' : 'M'}${mark.left.toFixed(1)} ${y}H${mark.right.toFixed(1)}`;
        area += `${joined ? 'L' : `M${mark.left.toFixed(1)} ${bottom}L`}${mark.left.toFixed(1)} ${y}H${mark.right.toFixed(1)}`;
        before = mark;
      }
      if (!before) return;
      if (s.area) svg('path', { class: `area-${s.tone}`, d: `${area}V${bottom}Z` }, this.svg);
      svg('path', { class: `stroke-${s.tone}${s.thin ? ' thin' : ''}`, d: line }, this.svg);
    });
  }

  describe() {
    const latest = this.marks.at(-1);
    const values = latest && this.series.map((s, i) => `${nameOf(s)} ${this.format(latest.values[i])}`).join(', ');
    this.svg.setAttribute('aria-label', t().chart(t()[this.title], values ?? t().noHistory));
    this.legend.replaceChildren();
    if (this.series.length < 2) return;
    const kind = this.stacked ? 'fill' : 'stroke';
    for (const s of this.series.filter(s => !s.thin)) {
      const entry = html('li', '', this.legend);
      html('i', `${kind}-${s.tone}`, entry);
      entry.append(nameOf(s));
    }
    if (this.shade) {
      const entry = html('li', '', this.legend);
      html('i', 'shade-key', entry);
      entry.append(t().retreatShade);
    }
  }

  /** Shows the values of one mark, or none. */
  point(index) {
    const mark = this.marks?.[index ?? -1];
    this.pointed = mark ? index : null;
    this.tip.hidden = !mark;
    this.cursor?.setAttribute('visibility', mark ? 'visible' : 'hidden');
    if (!mark) return;
    this.cursor.setAttribute('x1', mark.x);
    this.cursor.setAttribute('x2', mark.x);
    this.tip.replaceChildren();
    html('strong', '', this.tip, clock(mark.at, true));
    this.series.forEach((s, i) => {
      const row = html('div', '', this.tip);
      html('span', '', row, nameOf(s));
      html('b', '', row, this.format(mark.values[i]));
    });
    const beside = mark.x > this.width / 2 ? mark.x - this.tip.offsetWidth - 10 : mark.x + 10;
    this.tip.style.left = `${Math.max(0, beside)}px`;
  }
}

// The dashboard: takes a snapshot a second from the server and draws it.
//
// Whatever comes from the server may hold what a client sent, so it is only ever written as text.

import { t, number, percent, span, bytes, clock, switchLanguage, writeTexts } from './texts.js';
import { Chart } from './charts.js';
import { startSettings, firstLoad, follow, repeat, act, authorization } from './settings.js';
import { read } from './stream.js';

const SILENCE_MS = 5_000;
/** How long a removal waits to be asked for a second time. */
const SURE_MS = 4_000;
const RECONNECT_MS = 3_000;
/** A stream that is open and silent for so long is dead, whatever the browser believes. */
const DEAD_MS = 12_000;
/** The spans that the charts can show, in seconds. */
const RANGES = [300, 900, 3600];
const HOUR = RANGES.at(-1);
const STATE_TONES = { normal: 'good', retreat: 'bad', recover: 'warn' };
const PRIORITIES = ['urgent', 'high', 'normal', 'low'];

const by = id => document.getElementById(id);
const state = {
  snapshot: null,
  /** The history: its points, their columns, the seconds between two. */
  points: [], columns: null, step: 5,
  /** The seconds that the charts show, and the ones that somebody chose. */
  range: HOUR, chosen: null,
  /** When a snapshot came last, the page was opened and the stream was opened. */
  heard: 0, started: performance.now(), opened: 0,
  /** The waiting request whose removal was asked for once. */
  removing: null,
};

function text(id, value) {
  const node = by(id);
  if (node.textContent !== value) node.textContent = value;
}

function tone(id, value, name) {
  text(id, value);
  by(id).dataset.tone = name;
}

function element(name, className, value) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (value !== undefined) node.textContent = value;
  return node;
}

// ---- figures ----

function drawHead(s) {
  const problems = s.health.problems;
  if (s.draining) tone('health', t().draining, 'warn');
  else if (s.health.ready) tone('health', t().ready, 'good');
  else tone('health', t().notReady, 'bad');
  const items = problems.map(p => {
    const item = element('li', '', t().problem(t().checks[p.check] ?? p.check, span(p.since_seconds)));
    item.dataset.tone = p.not_ready ? 'bad' : 'warn';
    item.title = p.detail;
    return item;
  });
  const list = by('problems');
  // Untouched while it says the same: what is read aloud is what is new.
  if (list.children.length !== items.length || items.some((item, i) => !list.children[i].isEqualNode(item))) {
    list.replaceChildren(...items);
  }
  text('facts', t().facts(s.version, span(s.uptime_seconds), number(s.connections), number(s.connections_max)));
  document.title = s.queue.current_size ? `(${s.queue.current_size}) nvidia-sidecar` : 'nvidia-sidecar';
}

function drawTiles(s) {
  const retreat = s.retreat;
  text('effective', number(retreat.effective_rpm, 1));
  text('base', retreat.effective_rpm < retreat.base_rpm ? t().ofBase(number(retreat.base_rpm, 1)) : t().perMinute);
  tone('retreat', t().states[retreat.state] ?? retreat.state, STATE_TONES[retreat.state] ?? '');
  const held = retreat.held_models;
  const names = held.slice(0, 3).map(h => `${h.model} (${span(h.seconds)})`).join(', ');
  text('held', held.length ? t().held(held.length, names) : '');

  const learned = retreat.learned_rpm;
  text('learned', learned === null || learned === undefined ? '' : t().learned(number(learned, 1)));
  by('reset-rate').hidden = retreat.effective_rpm >= retreat.base_rpm && !held.length;

  const tokens = s.tokens;
  text('tokens', number(Math.floor(tokens.available)));
  text('capacity', t().ofCapacity(number(tokens.capacity)));
  const meter = by('tokens-bar');
  meter.setAttribute('aria-valuemax', tokens.capacity);
  meter.setAttribute('aria-valuenow', Math.floor(tokens.available));
  meter.firstElementChild.style.width = `${100 * part(tokens.available, tokens.capacity)}%`;
  text('window', t().window(number(tokens.window_used), number(tokens.window_limit)));

  const quota = q => t().quota(q.match, q.window, number(q.used), number(q.limit), q.next_free_seconds > 0 ? span(q.next_free_seconds) : '');
  text('quotas', s.quotas.map(quota).join(' · '));

  text('share', percent(retreat.upstream_429_rate));
  by('share').classList.toggle('hot', retreat.upstream_429_rate >= 0.05);
  text('share-note', t().shareNote(number(s.totals.upstream_errors), number(s.totals.ratelimited)));
  text('in-flight', number(s.in_flight.nvidia + s.in_flight.passthrough));
  text('in-flight-note', t().inFlightNote(number(s.in_flight.nvidia), number(s.in_flight.passthrough)));
}

const part = (value, whole) => (whole > 0 ? Math.min(1, Math.max(0, value / whole)) : 0);

const lanes = PRIORITIES.map(priority => {
  const [name, bar, count] = [element('span'), element('div', 'bar'), element('b')];
  const fill = element('span');
  fill.dataset.priority = priority;
  bar.append(fill);
  by('lanes').append(name, bar, count);
  return { priority, name, fill, count };
});

function drawQueue(s) {
  const queue = s.queue;
  text('queue-title', t().queue(number(queue.current_size)));
  // Bars compare the priorities; a scale up to the bound would leave them invisible for most of their life.
  const scale = Math.max(10, ...PRIORITIES.map(p => queue.depth_by_priority[p]));
  for (const lane of lanes) {
    const depth = queue.depth_by_priority[lane.priority];
    lane.name.textContent = t().priorities[lane.priority];
    lane.count.textContent = number(depth);
    lane.fill.style.width = `${100 * part(depth, scale)}%`;
  }
  const [used, bound] = [bytes(queue.bytes), bytes(queue.max_bytes)];
  text('queue-note', t().queueNote(number(queue.max_size), used, bound, span(queue.oldest_seconds)));
}

// ---- tables ----

/** Makes the table's body hold one row for each item, reusing rows; `cells` gives a text or nodes for each column. */
function rows(id, items, cells) {
  const table = by(id);
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  while (body.rows.length > items.length) body.lastElementChild.remove();
  items.forEach((item, i) => {
    const row = body.rows[i] ?? body.insertRow();
    cells(item).forEach((content, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      cell.className = heads[column].className;
      cell.dataset.name = heads[column].textContent;
      const box = element('span');
      box.append(...[content].flat());
      if (cell.firstChild?.isEqualNode(box)) return;
      cell.replaceChildren(box);
    });
  });
}

function keyed(priority, aged) {
  const key = element('i', 'key');
  key.dataset.priority = priority;
  const name = element('span', 'word', t().priorities[priority] ?? priority);
  return aged ? [key, name, element('small', 'badge', t().aged)] : [key, name];
}

/** The button that removes a waiting request; it asks once more before it does. */
function removal(waiting) {
  const button = element('button', 'small', state.removing === waiting.id ? t().reallyRemove : t().remove);
  button.type = 'button';
  button.dataset.remove = waiting.id;
  button.setAttribute('aria-label', `${t().remove} ${waiting.request_id}`);
  return button;
}

by('waiting').addEventListener('click', event => {
  const id = event.target.closest('[data-remove]')?.dataset.remove;
  if (!id) return;
  if (state.removing === id) {
    state.removing = null;
    act('DELETE', `queue/${id}`, () => t().removed);
  } else {
    state.removing = id;
    setTimeout(() => { if (state.removing === id) state.removing = null; }, SURE_MS);
  }
  drawWaiting(state.snapshot);
});
by('reset-rate').addEventListener('click', () => act('POST', 'admin/reset', () => t().rateReset));

function drawWaiting(s) {
  text('waiting-title', t().waiting(number(s.queue.current_size)));
  rows('waiting', s.waiting, w => [
    number(w.position), w.agent, keyed(w.priority, w.aged), w.model ?? '–',
    w.kept_alive_seconds === null ? span(w.waited_seconds) : t().keptAlive(span(w.waited_seconds), span(w.kept_alive_seconds)),
    w.estimate_seconds === null ? t().onHold : span(w.estimate_seconds), element('span', 'mono', w.request_id),
    removal(w),
  ]);
  by('waiting').hidden = s.waiting.length === 0;
  by('waiting-empty').hidden = s.waiting.length > 0;
  const more = s.queue.current_size - s.waiting.length;
  text('waiting-more', s.waiting.length && more > 0 ? t().more(number(more)) : '');
}

function heartbeat(agent) {
  if (agent.heartbeat_seconds === null) return '–';
  const dot = element('i', 'dot');
  if (agent.fresh === null) return [dot, t().never];
  dot.dataset.tone = agent.fresh ? 'good' : 'bad';
  const seen = agent.last_seen_seconds === null ? t().never : t().ago(span(agent.last_seen_seconds));
  return [dot, agent.fresh ? t().fresh : t().stale, element('small', '', seen)];
}

function named(agent) {
  if (agent.heartbeat_seconds === null) return t().otherAgents;
  const notes = [agent.label === agent.name ? '' : agent.label, agent.task].filter(Boolean);
  return [agent.name, ...notes.map(note => element('small', '', note))];
}

const hotFrom = (limit, value, shown) => element('span', limit && value >= limit ? 'hot' : '', shown);

function drawAgents(s) {
  rows('agents', s.agents, a => [
    named(a),
    heartbeat(a),
    hotFrom(0.05, a.ratelimited_share, percent(a.ratelimited_share)),
    a.response_seconds === null ? '–' : span(a.response_seconds),
    a.pending === null ? '–' : number(a.pending),
    a.stagnation_seconds ? hotFrom(a.stagnation_warning_seconds, a.stagnation_seconds, span(a.stagnation_seconds)) : '–',
    a.rounds === null ? '–' : hotFrom(a.rounds_limit, a.rounds, t().rounded(number(a.rounds), a.rounds_limit && number(a.rounds_limit))),
    number(a.tokens.prompt + a.tokens.completion),
    number(a.requests),
  ]);
}

function drawClients(s) {
  rows('clients', s.clients, c => [
    c.client, number(c.requests),
    hotFrom(1, c.ratelimited, number(c.ratelimited)), hotFrom(1, c.failed, number(c.failed)),
    span(c.queue_seconds), number(c.tokens.prompt), number(c.tokens.completion),
  ]);
  by('clients').hidden = s.clients.length === 0;
  by('clients-empty').hidden = s.clients.length > 0;
}

// ---- charts ----

/** A line for each priority. */
const byPriority = (column, suffix, rest) => PRIORITIES.map(priority => ({
  column: `${column}_${priority}`, tone: priority, name: () => `${t().priorities[priority]}${suffix}`, ...rest,
}));

const charts = [
  new Chart('chart-throughput', 'throughput', [
    { column: 'ok', name: 'ok', tone: 'ok' },
    { column: 'ratelimited', name: 'refused', tone: 'refused' },
    { column: 'failed', name: 'failed', tone: 'failed' },
    { column: 'passthrough', name: 'passed', tone: 'passed' },
  ], { stacked: true, least: 4, format: v => number(v, 1), limit: 'base_rpm' }),
  new Chart('chart-rate', 'rateOverTime', [
    { column: 'effective_rpm', name: 'effective', tone: 'ok', area: true },
    { column: 'base_rpm', name: 'base', tone: 'passed' },
  ], { least: 10, format: v => number(v, 1), shade: true }),
  new Chart('chart-wait', 'waitOverTime', [
    ...byPriority('p95', ' p95'), ...byPriority('p50', ' p50', { thin: true }),
  ], { sparse: true, least: 4, format: v => span(v) }),
  new Chart('chart-depth', 'depthOverTime', [
    { column: 'queue_depth', name: 'depth', tone: 'ok', area: true },
    ...byPriority('depth', ''),
  ], { least: 4, format: v => number(v, 1) }),
  new Chart('chart-failures', 'failuresOverTime', [
    { column: 'upstream_429', name: 'upstreamRefused', tone: 'refused' },
    { column: 'failed', name: 'failed', tone: 'failed' },
  ], { stacked: true, least: 4, format: v => number(v, 1) }),
  new Chart('chart-share', 'shareOverTime', [
    { column: 'upstream_429_rate', name: 'share', tone: 'refused', area: true },
  ], { least: 0.05, most: 1, format: percent }),
];

function drawCharts() {
  const now = state.snapshot?.at ?? state.points.at(-1)?.at;
  if (now) for (const chart of charts) chart.show(state.points, now, state.range, state.step);
}

const rangeButtons = document.querySelectorAll('[data-range]');

function setRange(seconds) {
  state.range = seconds;
  for (const button of rangeButtons) button.setAttribute('aria-pressed', String(Number(button.dataset.range) === seconds));
  drawCharts();
}

/** Unless somebody chose: as narrow as the history allows. A young one would be a sliver at the edge of the hour. */
function fitRange() {
  const age = state.points.length ? state.points.at(-1).at - state.points[0].at : 0;
  setRange(state.chosen ?? RANGES.find(range => age < range) ?? HOUR);
}

/** A point as an object; the history names the columns. */
const point = values => Object.fromEntries(state.columns.map((name, i) => [name, values[i]]));

async function loadHistory() {
  try {
    const response = await fetch('dashboard/history', { headers: authorization(), cache: 'no-store' });
    if (!response.ok) return;
    const history = await response.json();
    state.step = history.step_seconds;
    state.columns = history.columns;
    state.points = history.points.map(point);
    fitRange();
  } catch { /* the stream brings points too; the next connection asks again */ }
}

function addPoint(values) {
  if (!values || !state.columns) return false;
  const newest = point(values);
  if (newest.at <= (state.points.at(-1)?.at ?? 0)) return false;
  state.points.push(newest);
  state.points = state.points.filter(p => p.at > newest.at - HOUR);
  fitRange();
  return true;
}

// ---- stream ----

function drawFigures() {
  if (!state.snapshot) return;
  for (const draw of [drawHead, drawTiles, drawQueue, drawWaiting, drawAgents, drawClients, follow]) draw(state.snapshot);
}

let closeStream = () => {};
let again = 0;
/** The stream is open; why it was refused, as a status, or 0. */
let open = false;
let refused = 0;

function connect() {
  clearTimeout(again);
  closeStream();
  open = false;
  closeStream = read('dashboard/stream', authorization(), {
    opened() {
      open = true;
      refused = 0;
      state.opened = performance.now();
      loadHistory();
    },
    event(data) {
      const first = !state.snapshot;
      state.snapshot = JSON.parse(data);
      state.heard = performance.now();
      drawFigures();
      if (addPoint(state.snapshot.point) || first) drawCharts();
      drawVeil();
      if (first) firstLoad(state.snapshot.admin_token_required);
    },
    ended(status) {
      open = false;
      refused = status;
      drawVeil();
      // A wrong token stays wrong until another is given.
      if (status !== 401 && status !== 403) again = setTimeout(connect, RECONNECT_MS);
    },
  });
}

function drawVeil() {
  const now = performance.now();
  const silent = now - (state.heard || state.started) > SILENCE_MS;
  const locked = refused === 401 || refused === 403;
  by('veil').hidden = !silent || locked;
  by('main').inert = silent && !locked;
  if (locked) tone('health', refused === 401 ? t().needTokenToSee : t().wrongToken, 'warn');
  if (!silent || locked) return;
  // What was true is not known to be any more.
  tone('health', t().noData, '');
  by('problems').replaceChildren();
  text('veil-note', state.snapshot ? t().lastData(clock(state.snapshot.at, true)) : t().noDataYet);
  if (open && now - Math.max(state.heard, state.opened) > DEAD_MS) connect();
}

function drawAll() {
  writeTexts();
  drawFigures();
  drawCharts();
  drawVeil();
  repeat();
}

by('language').addEventListener('click', () => { switchLanguage(); drawAll(); });
for (const button of rangeButtons) {
  button.addEventListener('click', () => { state.chosen = Number(button.dataset.range); setRange(state.chosen); });
}
setRange(HOUR);
drawAll();
startSettings(connect);
connect();
setInterval(drawVeil, 500);

// The settings: read from the server, changed with the admin token, which this tab alone keeps.

import { t } from './texts.js';

const URL_CONFIG = 'admin/config';
const KEY = 'sidecar.admin';
const FIELDS = ['rate_rpm', 'queue_max_size', 'queue_full_policy'];
/** The texts that name them. */
const NAMES = { rate_rpm: 'rateRpm', queue_max_size: 'queueMax', queue_full_policy: 'fullPolicy' };

const by = id => document.getElementById(id);
/** The settings as the server last told them. */
let known = null;
/** What was last said, as a function, so that a change of language says it anew. */
let said = null;

function token() {
  try { return sessionStorage.getItem(KEY) ?? ''; } catch { return by('token').value; }
}

function keep(value) {
  try {
    if (value) sessionStorage.setItem(KEY, value); else sessionStorage.removeItem(KEY);
  } catch { /* then it is kept in the field */ }
}

/** Says how it went: below the form, or at the top for what was done outside it. */
function say(tone, text, where = 'settings-result') {
  said = text && (() => say(tone, text, where));
  by(where).textContent = text ? text() : '';
  by(where).dataset.tone = tone;
}

/** Says the last result again, in the language of now. */
export const repeat = () => said?.();

/** The fields that show who is asking. */
export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

async function ask(method, url, body, where) {
  const headers = { Accept: 'application/json', ...authorization() };
  if (body) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(url, {
      method, headers, body: body && JSON.stringify(body),
      cache: 'no-store', signal: AbortSignal.timeout(10_000),
    });
  } catch {
    say('bad', () => t().unreachable, where);
    return null;
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const reason = String(answer?.error?.message ?? `HTTP ${response.status}`);
  if (response.status === 401) {
    say('warn', () => t().needToken, where);
    if (where || document.activeElement?.closest('#settings')) by('token').focus();
  } else if (response.status === 403 && token()) {
    say('bad', () => t().wrongToken, where);
  } else {
    say('bad', () => t().refusedBecause(reason), where);
  }
  return null;
}

/** Does what an operator asked for outside the form; `done` says that it is. */
export async function act(method, url, done) {
  if (await ask(method, url, undefined, 'action-result')) say('good', done, 'action-result');
}

function fill(config) {
  known = Object.fromEntries(FIELDS.map(key => [key, config[key]]));
  const form = by('settings-form').elements;
  for (const key of FIELDS) form[key].value = known[key] ?? '';
  by('settings-fields').disabled = false;
}

async function load() {
  const config = await ask('GET', URL_CONFIG);
  if (config) fill(config);
  else if (!known) by('settings-fields').disabled = true;
  return Boolean(config);
}

/** The settings that the form has otherwise than the server. */
function changes() {
  const form = by('settings-form').elements;
  const wanted = key => {
    const field = form[key];
    return field.type === 'number' ? Number(field.value) : field.value;
  };
  return Object.fromEntries(FIELDS.filter(key => wanted(key) !== known[key]).map(key => [key, wanted(key)]));
}

async function save(event) {
  event.preventDefault();
  if (!by('settings-form').reportValidity()) return say('bad', () => t().invalid);
  const patch = changes();
  if (!Object.keys(patch).length) return say('', () => t().unchanged);
  const config = await ask('POST', URL_CONFIG, patch);
  if (!config) return undefined;
  say('good', () => t().saved(Object.keys(patch).map(key => `${t()[NAMES[key]]} = ${patch[key]}`).join(', ')));
  // The answer has the settings as they are now; ask again should it be of another shape.
  return FIELDS.every(key => key in config) ? fill(config) : load();
}

/** Wires the forms. `reconnect` is called when another token is given. */
export function startSettings(reconnect) {
  by('settings-form').addEventListener('submit', save);
  by('reload').addEventListener('click', async () => { if (await load()) say('', null); });
  by('token-form').addEventListener('submit', async event => {
    event.preventDefault();
    keep(by('token').value.trim());
    reconnect();
    if (await load()) say('', null);
  });
  by('forget').addEventListener('click', () => {
    keep('');
    by('token').value = '';
    known = null;
    by('settings-fields').disabled = true;
    by('settings-form').reset();
    say('', null);
  });
  by('token').value = token();
}

/** Follows what was changed elsewhere, unless somebody is at it here. */
export function follow(snapshot) {
  if (!known || by('settings-form').contains(document.activeElement) || Object.keys(changes()).length) return;
  const now = {
    rate_rpm: snapshot.retreat.base_rpm, queue_max_size: snapshot.queue.max_size,
    queue_full_policy: snapshot.queue.full_policy,
  };
  if (FIELDS.some(key => now[key] !== known[key])) fill(now);
}

/** Reads the settings when that can succeed: a question that is sure to be refused is not asked. */
export function firstLoad(tokenRequired) {
  if (tokenRequired && !token()) say('warn', () => t().needToken);
  else load();
}

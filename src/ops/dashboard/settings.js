// The settings: read from the server, changed with the admin token, which this tab alone keeps.

import { t } from './texts.js';

const URL_CONFIG = 'admin/config';
const KEY = 'sidecar.admin';
const FIELDS = ['rate_rpm', 'queue_max_size', 'queue_full_policy', 'fallback_enabled_passthrough'];
/** The texts that name them. */
const NAMES = {
  rate_rpm: 'rateRpm', queue_max_size: 'queueMax', queue_full_policy: 'fullPolicy',
  fallback_enabled_passthrough: 'fallback',
};

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

function say(tone, text) {
  said = text && (() => say(tone, text));
  by('settings-result').textContent = text ? text() : '';
  by('settings-result').dataset.tone = tone;
}

/** Says the last result again, in the language of now. */
export const repeat = () => said?.();

/** The fields that show who is asking. */
export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

async function ask(method, body) {
  const headers = { Accept: 'application/json', ...authorization() };
  if (body) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(URL_CONFIG, {
      method, headers, body: body && JSON.stringify(body),
      cache: 'no-store', signal: AbortSignal.timeout(10_000),
    });
  } catch {
    say('bad', () => t().unreachable);
    return null;
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const reason = String(answer?.error?.message ?? `HTTP ${response.status}`);
  if (response.status === 401) {
    say('warn', () => t().needToken);
    if (document.activeElement?.closest('#settings')) by('token').focus();
  } else if (response.status === 403 && token()) {
    say('bad', () => t().wrongToken);
  } else {
    say('bad', () => t().refusedBecause(reason));
  }
  return null;
}

function fill(config) {
  known = Object.fromEntries(FIELDS.map(key => [key, config[key]]));
  const form = by('settings-form').elements;
  for (const key of FIELDS) {
    if (form[key].type === 'checkbox') form[key].checked = Boolean(known[key]);
    else form[key].value = known[key] ?? '';
  }
  by('settings-fields').disabled = false;
}

async function load() {
  const config = await ask('GET');
  if (config) fill(config);
  else if (!known) by('settings-fields').disabled = true;
  return Boolean(config);
}

/** The settings that the form has otherwise than the server. */
function changes() {
  const form = by('settings-form').elements;
  const wanted = key => {
    const field = form[key];
    return field.type === 'checkbox' ? field.checked : field.type === 'number' ? Number(field.value) : field.value;
  };
  return Object.fromEntries(FIELDS.filter(key => wanted(key) !== known[key]).map(key => [key, wanted(key)]));
}

async function save(event) {
  event.preventDefault();
  if (!by('settings-form').reportValidity()) return say('bad', () => t().invalid);
  const patch = changes();
  if (!Object.keys(patch).length) return say('', () => t().unchanged);
  const config = await ask('POST', patch);
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

/** Reads the settings when that can succeed: a question that is sure to be refused is not asked. */
export function firstLoad(tokenRequired) {
  if (tokenRequired && !token()) say('warn', () => t().needToken);
  else load();
}

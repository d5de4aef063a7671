// Every text of the page in both languages, and how numbers and times are written.

const TEXTS = {
  en: {
    skip: 'Skip to the content', otherLanguage: '中文', overview: 'Overview',
    ready: 'Ready', notReady: 'Not ready', draining: 'Draining',
    problem: (check, since) => `${check} for ${since}`,
    checks: {
      key_accepted: 'NVIDIA refuses the key', upstream_reachable: 'upstream unreachable', queue_healthy: 'queue nearly full',
      token_bucket_healthy: 'rate at its floor or paused', models_free: 'models on hold', urgent_reserve: 'this minute is used up, URGENT waits too',
    },
    facts: (version, uptime, open, max) => `v${version} · up ${uptime} · ${open} of ${max} connections`,
    rate: 'Rate', perMinute: 'per minute', ofBase: base => `of ${base} per minute`,
    states: { normal: 'Normal', retreat: 'Retreating', recover: 'Recovering' },
    held: (n, names) => `${n} ${n === 1 ? 'model' : 'models'} on hold: ${names}`,
    tokens: 'Tokens', ofCapacity: n => `of ${n}`, window: (used, limit) => `${used} of ${limit} sent within 60 s`,
    quota: (match, window, used, limit, wait) => `${match} (${window === 'in_flight' ? 'in flight' : window}): ${used} of ${limit}${wait && `, next in ${wait}`}`,
    share: '429 share', shareNote: (errors, limited) => `last 60 s · ${errors} upstream errors, ${limited} passed on as 429 since the start`,
    inFlight: 'In flight', inFlightNote: (nvidia, passed) => `${nvidia} NVIDIA · ${passed} pass-through`,
    queue: n => `Queue · ${n} waiting`,
    queueNote: (max, bytes, maxBytes, oldest) => `Bound ${max} · ${bytes} of ${maxBytes} · longest wait ${oldest}`,
    priorities: { urgent: 'Urgent', high: 'High', normal: 'Normal', low: 'Low' },
    learned: rate => `granted when last refused: ${rate}`, resetRate: 'Reset the rate', rateReset: 'The rate is back at its base.', limit: rate => `limit ${rate}`,
    throughput: 'Finished requests in each minute', range: 'Time range', five: '5 min', quarter: '15 min', hour: '1 h',
    ok: 'OK', refused: '429', failed: 'Failed', passed: 'Pass-through', upstreamRefused: '429 of the upstream',
    rateOverTime: 'Rate, requests per minute', effective: 'Effective', base: 'Base', retreatShade: 'Retreat or recovery',
    depthOverTime: 'Queue depth', depth: 'All', waitOverTime: 'Wait for a ticket (solid p95, dashed p50)', failuresOverTime: 'Refused and failed in each minute', shareOverTime: '429 share over time',
    chart: (name, latest) => `${name}. Latest: ${latest}. Use the arrow keys to read values.`, noHistory: 'no data yet',
    waiting: n => `Waiting requests · ${n}`, position: '#', agent: 'Agent', priority: 'Priority', model: 'Model',
    waited: 'Waited', estimate: 'Expected wait', requestId: 'Request', nothingWaits: 'Nothing is waiting.',
    more: n => `and ${n} more`, onHold: 'on hold', keptAlive: (waited, kept) => `${waited} (kept alive ${kept})`,
    aged: 'risen', remove: 'Remove', reallyRemove: 'Sure?', removed: 'The request was removed; its client gets 403.',
    agents: 'Agents', heartbeat: 'Heartbeat', agentShare: '429 share', response: 'Response time', pending: 'Pending',
    stagnation: 'Stagnation', requests: 'Requests', fresh: 'Fresh', stale: 'Stale', never: 'not heard of yet', ago: t => `${t} ago`,
    otherAgents: 'all others', rounds: 'Rounds', rounded: (n, of) => (of ? `${n} of ${of}` : n), tokensSpent: 'Tokens spent',
    clients: 'Busiest clients of the last hour', client: 'Client', waitedInAll: 'Waited in all', prompt: 'Prompt tokens', completion: 'Completion tokens', noClients: 'No limited request yet.',
    settings: 'Settings', token: 'Admin token', useToken: 'Use token', forget: 'Forget',
    tokenNote: 'Kept for this tab only. Leave it empty when no token is configured and you are on this machine.',
    rateRpm: 'Rate (per minute)', queueMax: 'Queue bound', fullPolicy: 'When the queue is full',
    policyPassthrough: 'wait behind it', policyReject: 'reject', policyDropLowest: 'drop the lowest',
    save: 'Apply', reload: 'Reload',
    saved: keys => `Applied: ${keys}.`, unchanged: 'Nothing to change.', invalid: 'Please check the values.',
    needToken: 'The settings need the admin token.', needTokenToSee: 'Enter a client token or the admin token under “Settings” to see the figures.', wrongToken: 'Refused: the admin token is not the right one.',
    refusedBecause: reason => `Refused: ${reason}`, unreachable: 'The server did not answer.',
    noData: 'No data from the sidecar', lastData: time => `Last data at ${time}. Reconnecting…`, noDataYet: 'Connecting…',
  },
  zh: {
    skip: '跳到正文', otherLanguage: 'English', overview: '概览',
    ready: '就绪', notReady: '未就绪', draining: '正在排空',
    problem: (check, since) => `${check}，已持续 ${since}`,
    checks: {
      key_accepted: 'NVIDIA 拒绝密钥', upstream_reachable: '上游不可达', queue_healthy: '队列将满',
      token_bucket_healthy: '速率已降至下限或暂停', models_free: '有模型暂停', urgent_reserve: '本分钟名额已用完，紧急请求也需等待',
    },
    facts: (version, uptime, open, max) => `v${version} · 已运行 ${uptime} · 连接 ${open} / ${max}`,
    rate: '速率', perMinute: '每分钟', ofBase: base => `基准每分钟 ${base}`,
    states: { normal: '正常', retreat: '退避中', recover: '恢复中' },
    held: (n, names) => `${n} 个模型暂停：${names}`,
    tokens: '令牌', ofCapacity: n => `共 ${n}`, window: (used, limit) => `60 秒内已发送 ${used} / ${limit}`,
    quota: (match, window, used, limit, wait) => `${match}（${window === 'in_flight' ? '进行中' : window}）：${used} / ${limit}${wait && `，${wait} 后有空位`}`,
    share: '429 占比', shareNote: (errors, limited) => `最近 60 秒 · 启动以来上游错误 ${errors} 次，转为 429 ${limited} 次`,
    inFlight: '处理中', inFlightNote: (nvidia, passed) => `NVIDIA ${nvidia} · 直通 ${passed}`,
    queue: n => `队列 · ${n} 个等待`,
    queueNote: (max, bytes, maxBytes, oldest) => `上限 ${max} · ${bytes} / ${maxBytes} · 最长等待 ${oldest}`,
    priorities: { urgent: '紧急', high: '高', normal: '普通', low: '低' },
    learned: rate => `上次被拒时实际放行 ${rate}`, resetRate: '恢复基准速率', rateReset: '速率已恢复到基准。', limit: rate => `上限 ${rate}`,
    throughput: '每分钟完成的请求', range: '时间范围', five: '5 分钟', quarter: '15 分钟', hour: '1 小时',
    ok: '成功', refused: '429', failed: '失败', passed: '直通', upstreamRefused: '上游 429',
    rateOverTime: '速率（每分钟请求数）', effective: '实际', base: '基准', retreatShade: '退避或恢复',
    depthOverTime: '队列深度', depth: '全部', waitOverTime: '等待放行的时间（实线 p95，虚线 p50）', failuresOverTime: '每分钟被拒与失败', shareOverTime: '429 占比变化',
    chart: (name, latest) => `${name}。最新：${latest}。用方向键读取数值。`, noHistory: '暂无数据',
    waiting: n => `等待中的请求 · ${n}`, position: '序', agent: '智能体', priority: '优先级', model: '模型',
    waited: '已等待', estimate: '预计还需', requestId: '请求', nothingWaits: '没有等待中的请求。',
    more: n => `另有 ${n} 个`, onHold: '暂停', keptAlive: (waited, kept) => `${waited}（已保活 ${kept}）`,
    aged: '已提升', remove: '移除', reallyRemove: '确定？', removed: '已移除该请求，其客户端将收到 403。',
    agents: '智能体', heartbeat: '心跳', agentShare: '429 占比', response: '响应时间', pending: '待办',
    stagnation: '停滞', requests: '请求数', fresh: '正常', stale: '失联', never: '尚无消息', ago: t => `${t}前`,
    otherAgents: '其他全部', rounds: '轮次', rounded: (n, of) => (of ? `${n} / ${of}` : n), tokensSpent: '消耗词元',
    clients: '最近一小时最忙的客户端', client: '客户端', waitedInAll: '累计等待', prompt: '提示词元', completion: '生成词元', noClients: '还没有受限的请求。',
    settings: '设置', token: '管理令牌', useToken: '使用令牌', forget: '清除',
    tokenNote: '仅保存在此标签页。若未配置令牌且在本机访问，请留空。',
    rateRpm: '速率（每分钟）', queueMax: '队列上限', fullPolicy: '队列满时',
    policyPassthrough: '排在队尾等待', policyReject: '拒绝', policyDropLowest: '丢弃最低优先级',
    save: '应用', reload: '重新读取',
    saved: keys => `已应用：${keys}。`, unchanged: '没有改动。', invalid: '请检查输入的值。',
    needToken: '查看和修改设置需要管理令牌。', needTokenToSee: '请在“设置”中输入客户端令牌或管理令牌，才能查看数据。', wrongToken: '被拒绝：管理令牌不正确。',
    refusedBecause: reason => `被拒绝：${reason}`, unreachable: '服务器没有回应。',
    noData: '收不到数据', lastData: time => `最后数据：${time}。正在重新连接…`, noDataYet: '正在连接…',
  },
};

const KEY = 'sidecar.language';
const stored = read(KEY);
let language = TEXTS[stored] ? stored : (navigator.language || 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en';

// Storage may be switched off; the page does without.
function read(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

/** The texts of the language in use. */
export const t = () => TEXTS[language];

/** Goes on to the other language. */
export function switchLanguage() {
  language = language === 'en' ? 'zh' : 'en';
  try { localStorage.setItem(KEY, language); } catch { /* for this visit only, then */ }
}

/** Writes the texts that never change into the page. */
export function writeTexts() {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const node of document.querySelectorAll('[data-text]')) node.textContent = t()[node.dataset.text];
  for (const node of document.querySelectorAll('[data-label]')) node.setAttribute('aria-label', t()[node.dataset.label]);
  const button = document.getElementById('language');
  button.textContent = t().otherLanguage;
  button.lang = language === 'zh' ? 'en' : 'zh';
}

const locale = () => (language === 'zh' ? 'zh-CN' : 'en');

/** A number with at most so many digits after the point. */
export const number = (value, digits = 0) =>
  new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(Number(value) || 0);

export const percent = share =>
  new Intl.NumberFormat(locale(), { style: 'percent', maximumFractionDigits: 1 }).format(Number(share) || 0);

/** A length of time in its two largest units. */
export function span(seconds) {
  const units = language === 'zh' ? [' 天', ' 小时', ' 分', ' 秒'] : [' d', ' h', ' min', ' s'];
  const s = Math.max(0, Number(seconds) || 0);
  if (s < 10) return `${number(s, 1)}${units[3]}`;
  const parts = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60, Math.floor(s) % 60];
  const first = parts.findIndex(part => part > 0);
  return parts.slice(first, first + 2).map((part, i) => (part ? part + units[first + i] : '')).filter(Boolean).join(' ');
}

export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let value = Number(count) || 0;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${number(value, value < 10 && unit ? 1 : 0)} ${units[unit]}`;
}

/** The time of day of a Unix time in seconds. */
export const clock = (unix, seconds = false) =>
  new Date(unix * 1000).toLocaleTimeString(locale(), { hour: '2-digit', minute: '2-digit', second: seconds ? '2-digit' : undefined, hour12: false });

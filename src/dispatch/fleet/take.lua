-- One call of one sidecar to the windows that its fleet shares. Everything that a call changes, it changes here, at one
-- moment of one server, so no two sidecars can take one place.
--
-- ARGV[1] is the request, one JSON object (`protocol.rs` has its fields); the answer is one as well. All keys carry one hash
-- tag, and all are named:
--   KEYS[1] meta      hash: version, server, generation, sequence, the fleet's time, hold, bucket
--   KEYS[2] replicas  hash: sidecar -> what is known of it (JSON)
--   KEYS[3] claims    hash: sidecar -> "class|arrived|client" of its best waiting request
--   KEYS[4] served    hash: client -> its places in the key's window (clients take turns by it)
--   KEYS[5...] quotas sorted sets: place -> the time from which it counts as sent; the first is the key's own
--
-- What holds at each moment, and why:
--   1. A place that is granted counts at once, as sent at the last moment at which it may be sent (`validity` ahead), until its
--      sidecar says when it was. It says how long ago that was by its own monotonic clock when it asked, so that the place
--      counts from a moment that is never earlier than the true one, whatever the two clocks show.
--   2. The fleet's time runs no faster than real time: it is Redis' clock plus an offset. A clock that jumps back is caught by
--      `last`, and time goes on from there. One that jumps forward (or a call that was executed late) is noticed by the
--      caller's own clock (`expect`): such a call changes nothing, and the next one brings a bound (`cap`).
--   3. A sidecar's calls are numbered, and one that was overtaken by a later one changes nothing.
--   4. Writes may be lost (failover, FLUSHALL, an empty restart). Each of these shows in the server's identity, in the
--      generation, in the sequence or in the number of the caller's last answered call. The generation then rises, and nothing is
--      granted until each sidecar that was heard of has told its own last window again or can have nothing left in it.
--   5. Keys of another layout are left alone.
local VERSION = 1
local q = cjson.decode(ARGV[1])
local META, REPLICAS, CLAIMS, SERVED, QUOTAS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], 4
local KEY = KEYS[QUOTAS + 1]

local time = redis.call('TIME')
local raw = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The longest that a request of this fleet can count after its sidecar was last heard.
local longest = 0
for _, quota in ipairs(q.quotas) do longest = math.max(longest, quota.window) end
local memory = longest + q.validity

local function answer(state, more)
  more = more or {}
  more.state, more.raw = state, raw
  return cjson.encode(more)
end

local m = redis.call('HMGET', META, 'version', 'server', 'generation', 'sequence', 'last', 'offset', 'hold', 'freed', 'due')
local version, server = tonumber(m[1] or nil), m[2]
local generation, sequence = tonumber(m[3] or nil), tonumber(m[4] or nil)
local last, offset = tonumber(m[5] or nil), tonumber(m[6] or 0)
local hold, freed, due = tonumber(m[7] or 0), tonumber(m[8] or 0), tonumber(m[9] or 0)

if version and version ~= VERSION then
  -- An older layout that has been silent for longer than anything in it counts gives way.
  if version > VERSION or not last or raw + offset - last <= memory then
    return answer('version', { version = version })
  end
  redis.call('DEL', unpack(KEYS))
  server, generation, sequence, last, offset, hold, freed, due = nil, nil, nil, nil, 0, 0, 0, 0
end

-- A sidecar that has just come only listens until it knows that others watch the clock, or that nothing else calls.
if q.op == 'listen' then
  return answer('listen', { now = math.max(raw + offset, last or 0), last = last, generation = generation or 0 })
end

if q.expect > 0 and raw > q.expect then return answer('late') end

local now = raw + offset
if q.cap > 0 and now > q.cap then now = q.cap end
if last and now < last then now = last end
offset = now - raw

local replicas = {}
local flat = redis.call('HGETALL', REPLICAS)
for i = 1, #flat, 2 do replicas[flat[i]] = cjson.decode(flat[i + 1]) end
local mine = replicas[q.me]
if mine and q.call <= mine.call then return answer('overtaken') end

-- Has anything been lost?
local lost = not generation or server ~= q.server or generation < q.generation
  or (generation == q.generation and (sequence < q.sequence or not mine or mine.call < q.answered))
if lost then
  for _, r in pairs(replicas) do
    -- One that was silent for long before has nothing that counts; its share, if it has one, is kept for it below.
    local quiet = now - r.heard
    r.block = (r.left and r.heard + longest) or (quiet <= memory + q.silence and now + memory) or nil
  end
  if q.generation > 0 then
    hold = now + q.hold -- the caller knows who there was
  elseif not generation then
    hold = now + memory -- nothing vouches for what was sent until now
  end
  generation = math.max(generation or 0, q.generation) + 1
  sequence = math.max(sequence or 0, q.sequence)
  server = q.server
end
if not mine then
  mine = { joined = now - q.known, generation = 0, held = {} }
  replicas[q.me] = mine
end
mine.id, mine.heard, mine.call, mine.left = q.id, now, q.call, nil
mine.block = mine.generation ~= generation and (q.generation > 0 or q.remembers) and now + memory or nil
mine.limit, mine.interval, mine.shares = q.quotas[1].limit, q.interval, q.quotas[1].share > 0
mine.about = q.about or mine.about

-- Places
local function add(id, at, draws)
  for _, draw in ipairs(draws) do
    local quota, key = q.quotas[draw], KEYS[QUOTAS + draw]
    if at > now - quota.window then
      local new = redis.call('ZADD', key, at, id)
      if draw == 1 and new == 1 then redis.call('HINCRBY', SERVED, string.match(id, '|(.-)|'), 1) end
    end
  end
end
local function forget(id)
  local client = string.match(id, '|(.-)|')
  if client and redis.call('HINCRBY', SERVED, client, -1) <= 0 then redis.call('HDEL', SERVED, client) end
end
local function drop(id)
  for i = QUOTAS + 1, #KEYS do
    if redis.call('ZREM', KEYS[i], id) == 1 and i == QUOTAS + 1 then
      forget(id)
      due = due - q.interval
    end
  end
end

local keep = {}
for _, sent in ipairs(q.sent) do
  keep[sent[1]] = true
  add(sent[1], now - sent[2], sent[3])
end
for _, id in ipairs(q.held) do keep[id] = true end
-- What it held and neither sent nor holds was given back, or granted by a call whose answer never came.
for _, id in ipairs(mine.held) do
  if not keep[id] then drop(id) end
end
mine.held = q.held

local tell = q.tell
if tell and tell.generation == generation then
  for _, own in ipairs(tell.own) do add(own[1], now - own[2], own[3]) end
  for _, peer in ipairs(tell.peers) do
    local name, id, left = peer[1], peer[2], peer[3]
    if not replicas[name] then
      local block = left >= 0 and now - left + longest or now + memory
      replicas[name] = { id = id, heard = now - math.max(left, q.silence + 1), call = 0, generation = 0, held = {},
        joined = now, left = left >= 0 or nil, block = block, shares = peer[4] }
    end
  end
  if tell.file then
    -- Its last life's window, from its state file: what of it Redis does not know counts as well, the newest of it.
    local known = 0
    for _, id in ipairs(redis.call('ZRANGE', KEY, 0, -1)) do
      local name = string.match(id, '|([^|]*)$')
      if name ~= q.me and string.match(name, '^(.*)~') == q.id then known = known + 1 end
    end
    for i = 1, #tell.file - known do
      add(generation .. '.f' .. i .. '||' .. q.me, now - tell.file[i], { 1 })
    end
    for name, r in pairs(replicas) do
      if r.id == q.id and name ~= q.me and now - r.heard > q.silence then r.block = nil end
    end
  end
  mine.generation = generation
end

for i = QUOTAS + 1, #KEYS do
  local before = now - q.quotas[i - QUOTAS].window
  if i == QUOTAS + 1 then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY, '-inf', before)) do forget(id) end
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', before)
end

-- Who is there, who is silent, and for whom must be waited?
local live, silent, here = 0, {}, {} -- `here`: the replica_ids that are heard
for _, r in pairs(replicas) do
  if not r.left and now - r.heard <= q.silence then
    live = live + 1
    here[r.id] = true
  end
end
local blocked = 0
for name, r in pairs(replicas) do
  local quiet = now - r.heard
  if r.generation ~= generation and r.block and now < r.block then blocked = math.max(blocked, r.block - now) end
  if r.left or quiet > q.silence then
    redis.call('HDEL', CLAIMS, name)
    if r.shares and not r.left and not here[r.id] then silent[#silent + 1] = name end
    if quiet > (r.left and memory or q.forget) then
      redis.call('HDEL', REPLICAS, name)
      replicas[name] = nil
    end
  end
end
-- Places are left for those that may be cut off and send their share: at most for as many as the fleet may have.
local absent = math.max(0, math.min(#silent, q.fleet_max - live))
-- What one has learned about the rate counts for all.
local limit, interval = q.quotas[1].limit, q.interval
for _, r in pairs(replicas) do
  if not r.left and r.limit and now - r.heard <= q.silence then
    limit, interval = math.min(limit, r.limit), math.max(interval, r.interval)
  end
end
local function limit_of(draw)
  local quota = q.quotas[draw]
  return math.max(0, (draw == 1 and limit or quota.limit) - absent * quota.share)
end

-- How long until the quota has a place, for the claim's class; 0 is now.
local function until_place(draw)
  local quota, key, most = q.quotas[draw], KEYS[QUOTAS + draw], limit_of(draw)
  local used = redis.call('ZCARD', key)
  local wait = 0
  local function leaves(nth) -- in how long the nth place from the oldest leaves
    if nth < 1 then return 0 end
    local at = redis.call('ZRANGE', key, nth - 1, nth - 1, 'WITHSCORES')[2]
    return at and math.max(0, tonumber(at) + quota.window - now) or quota.window
  end
  if used >= most then wait = leaves(used - most + 1) end
  if draw == 1 and q.claim.class > 0 and q.reserve > 0 and most > q.reserve then
    -- As `limiter/reserve.rs`: one place more is free or comes back within an interval, and the reserve within three.
    local even = quota.window / most
    wait = math.max(wait, leaves(used + 2 - most) - 1.05 * even, leaves(used + 1 + q.reserve - most) - 3 * even)
  end
  return math.ceil(wait)
end

local state, more = 'idle', {}
if q.op == 'leave' then
  mine.left = true
  redis.call('HDEL', CLAIMS, q.me)
elseif mine.generation ~= generation then
  state = 'tell'
elseif now < hold or blocked > 0 then
  state, more.wait = 'repair', math.max(hold - now, blocked)
elseif not q.claim then
  redis.call('HDEL', CLAIMS, q.me)
else
  local claim = q.claim
  state = 'wait'
  local wait = 0
  for _, draw in ipairs(claim.draws) do
    local at = until_place(draw)
    if at > wait then
      wait = at
      if draw > 1 then more.quota = draw end
    end
  end
  if interval > 0 then
    local early = math.ceil(math.max(due, now) - (q.burst - 1) * interval - now)
    if early > wait then wait, more.quota = early, nil end
  end
  wait = math.max(wait, mine.joined + q.probation - now)
  if more.quota then
    redis.call('HDEL', CLAIMS, q.me) -- it waits for its model, and must not keep others waiting
  else
    redis.call('HSET', CLAIMS, q.me, claim.class .. '|' .. (now - claim.waited) .. '|' .. claim.client)
  end
  if wait > 0 then
    if not more.quota then freed = 0 end
  elseif freed == 0 then
    freed = now
  end
  local best, class, turns, arrived
  local all = redis.call('HGETALL', CLAIMS)
  for i = 1, #all, 2 do
    -- A best claim whose sidecar does not come for its place is passed over.
    if all[i] == q.me or freed == 0 or now - freed < q.patience then
      local c, a, client = string.match(all[i + 1], '^(%d+)|(%-?%d+)|(.*)$')
      c, a = tonumber(c), tonumber(a)
      local t = tonumber(redis.call('HGET', SERVED, client) or 0)
      local first = not best or c < class
        or (c == class and (t < turns or (t == turns and (a < arrived or (a == arrived and all[i] < best)))))
      if first then best, class, turns, arrived = all[i], c, t, a end
    end
  end
  more.behind = best ~= q.me
  if wait > 0 then
    more.wait = wait
  else
    if best == q.me then
      sequence = sequence + 1
      local id = generation .. '.' .. sequence .. '|' .. claim.client .. '|' .. q.me
      add(id, now + q.validity, claim.draws)
      table.insert(mine.held, id)
      redis.call('HDEL', CLAIMS, q.me)
      if interval > 0 then due = math.max(due, now) + interval end
      freed = 0
      state, more.id = 'grant', id
    else
      more.wait = q.poll
    end
  end
end

for name, r in pairs(replicas) do
  if lost or name == q.me or (tell and r.call == 0) then redis.call('HSET', REPLICAS, name, cjson.encode(r)) end
end
if tell and tell.file then
  for name, r in pairs(replicas) do
    if r.id == q.id then redis.call('HSET', REPLICAS, name, cjson.encode(r)) end
  end
end
redis.call('HSET', META, 'version', VERSION, 'server', server, 'generation', generation, 'sequence', sequence, 'last', now,
  'offset', offset, 'hold', hold, 'freed', freed, 'due', due)
local lives = math.max(86400000, 4 * memory)
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], lives) end

more.now, more.generation, more.sequence = now, generation, sequence
more.limit, more.used, more.absent, more.hold = limit_of(1), redis.call('ZCARD', KEY), absent, math.max(0, hold - now)
if q.roster then
  more.roster = {}
  for name, r in pairs(replicas) do
    more.roster[#more.roster + 1] = { name = name, id = r.id, silent = now - r.heard, left = r.left or false,
      shares = r.shares or false, about = r.about }
  end
end
return answer(state, more)

"""What RedisMemory and SharedWindow have Redis do in one step. KEYS[1] is the prefix, ARGV[1] the time, or empty."""

_NOW = """
local prefix, now = KEYS[1], tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
"""

# Money in nano-dollars. reservation:ID is a hash, `due` sorts the uncharged ones by their end, `reserved` is their sum.
_MONEY = (
    _NOW
    + """
local HOUR_S, KEPT_S = 3600, 40 * 86400

local function charge(at, usd, requests, into, out)
    local hour = math.floor(at / HOUR_S)
    for _, key in ipairs({'spent:hour:' .. hour, 'spent:day:' .. math.floor(hour / 24), 'spent'}) do
        key = prefix .. key
        redis.call('HINCRBY', key, 'usd', usd)
        redis.call('HINCRBY', key, 'requests', requests)
        redis.call('HINCRBY', key, 'input_tokens', into)
        redis.call('HINCRBY', key, 'output_tokens', out)
        if key ~= prefix .. 'spent' then redis.call('EXPIRE', key, KEPT_S) end
    end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'due', '-inf', '(' .. now, 'LIMIT', 0, 100)) do
    local key = prefix .. 'reservation:' .. id
    local found = redis.call('HMGET', key, 'at', 'most', 'likely')
    redis.call('ZREM', prefix .. 'due', id)
    redis.call('DECRBY', prefix .. 'reserved', found[2])
    redis.call('HSET', key, 'charged', 1)
    redis.call('EXPIRE', key, 30 * 86400)
    charge(tonumber(found[1]), found[3], 1, 0, 0)
end

local function spending()
    local hour = math.floor(now / HOUR_S)
    local of_hour = redis.call('HGET', prefix .. 'spent:hour:' .. hour, 'usd')
    local of_day = redis.call('HGET', prefix .. 'spent:day:' .. math.floor(hour / 24), 'usd')
    return {tonumber(of_hour or 0), tonumber(of_day or 0), tonumber(redis.call('GET', prefix .. 'reserved') or 0)}
end

local function finish(id, usd, requests, into, out)
    local key = prefix .. 'reservation:' .. id
    local found = redis.call('HMGET', key, 'at', 'most', 'likely', 'charged')
    if not found[1] then return end
    redis.call('DEL', key)
    if found[4] then
        charge(tonumber(found[1]), string.format('%.0f', usd - found[3]), requests - 1, into, out)
        return
    end
    redis.call('ZREM', prefix .. 'due', id)
    redis.call('DECRBY', prefix .. 'reserved', found[2])
    if requests > 0 then charge(now, usd, requests, into, out) end
end
"""
)

RESERVE = (
    _MONEY
    + """
local most, likely, hourly, daily, term = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local sums = spending()
if math.min(hourly - sums[1], daily - sums[2]) < sums[3] + most then return {0, unpack(sums)} end
local id = redis.call('INCR', prefix .. 'reservations')
redis.call('HSET', prefix .. 'reservation:' .. id, 'at', now, 'most', most, 'likely', likely)
redis.call('ZADD', prefix .. 'due', now + term, id)
redis.call('INCRBY', prefix .. 'reserved', most)
return {id, unpack(sums)}
"""
)
"""Arguments: most, likely, limit per hour and per day, term in seconds. Returns the reservation or 0, and the sums."""

SETTLE = _MONEY + "finish(ARGV[2], ARGV[3], 1, ARGV[4], ARGV[5])\nreturn spending()"
"""Arguments: reservation, price, tokens in and out. Returns the sums: hour, day, reserved."""

RELEASE = _MONEY + "finish(ARGV[2], 0, 0, 0, 0)\nreturn {}"
"""Argument: the reservation."""

SPENDING = _MONEY + "return spending()"
"""Returns the sums."""

CHARGED = (
    _NOW
    + """
local all = redis.call('HMGET', prefix .. 'spent', 'usd', 'requests')
return {tonumber(all[1] or 0), tonumber(all[2] or 0)}
"""
)
"""Returns the price and the number of all requests."""

# What each request took of a window counts until its end, which is not known before its answer is there.
_WINDOW = (
    _NOW
    + """
local units, ends, sum = prefix .. 'units', prefix .. 'ends', prefix .. 'sum'
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
    redis.call('DECRBY', sum, redis.call('HGET', units, id))
    redis.call('HDEL', units, id)
    redis.call('ZREM', ends, id)
end
"""
)

TAKE = (
    _WINDOW
    + """
local wanted, limit, lease = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local held = tonumber(redis.call('GET', prefix .. 'held') or 0) - now
if held > 0 then return {0, math.ceil(held * 1000)} end
if tonumber(redis.call('GET', sum) or 0) + wanted > limit then
    local first = redis.call('ZRANGE', ends, 0, 0, 'WITHSCORES')
    return {0, math.ceil((tonumber(first[2]) - now) * 1000)}
end
local id = redis.call('INCR', prefix .. 'ids')
redis.call('INCRBY', sum, wanted)
redis.call('HSET', units, id, wanted)
redis.call('ZADD', ends, now + lease, id)
return {id, 0}
"""
)
"""Arguments: units, limit, lease in seconds. Returns an id, or 0 and the milliseconds until something ends."""

END = (
    _WINDOW
    + """
local id, used, period = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local taken = redis.call('HGET', units, id)
if not taken then return 0 end
redis.call('INCRBY', sum, used - taken)
if used > 0 then
    redis.call('HSET', units, id, used)
    redis.call('ZADD', ends, now + period, id)
else
    redis.call('HDEL', units, id)
    redis.call('ZREM', ends, id)
end
return 1
"""
)
"""Arguments: id, units that were used, seconds for which they count from now."""

HOLD = (
    _NOW
    + """
local until_ = now + tonumber(ARGV[2])
if until_ > tonumber(redis.call('GET', prefix .. 'held') or 0) then
    redis.call('SET', prefix .. 'held', until_, 'PX', math.ceil(tonumber(ARGV[2]) * 1000))
end
return 1
"""
)
"""Argument: seconds in which nothing may be taken."""

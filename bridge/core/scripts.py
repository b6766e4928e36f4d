"""What runs inside Redis for the exec lane: each script is one step that cannot be cut in half.

A stream's mark, the hash `bridge:mark:{<stream>}`, holds by `owner:<scope>` the token of the
connection that may write, and by producer `<seq> <id> <added>`: the last number written, its
stream id, and the stream's `entries-added` behind it. Both keys lie in one Cluster slot.

Redis does not roll a script back, so everything is checked before the first write, and a write
that fails in the middle leaves a mark that tells how far it came.
"""

from hashlib import sha1
from typing import Final

# `state` tells whether the stream still is what a mark was taken from: `gone` and `behind` are a
# stream that was deleted, perhaps begun again by somebody else, or set back to an earlier time.
# An entry that is not there was trimmed or deleted (`entries-added` above `length` then), or never
# was. Redis 6.2 tells neither, so there only the last id counts.
_STATE: Final = """
local function typed(key, wanted)
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= 'none' and kind ~= wanted then
    return nil, redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. kind .. ', no ' .. wanted)
  end
  return kind
end
local function parts(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end
local function before(a, b)
  local ams, an = parts(a)
  local bms, bn = parts(b)
  return ams < bms or (ams == bms and an < bn)
end
local function info_of(stream)
  local flat, info = redis.call('XINFO', 'STREAM', stream), {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  return info
end
local function state(stream, info, id, added)
  if id == '0-0' then return 'whole' end
  if not info then return 'gone' end
  if before(info['last-generated-id'], id) then return 'behind' end
  local total = info['entries-added']
  if total and tonumber(total) < tonumber(added) then return 'behind' end
  local first, deleted = info['first-entry'], info['max-deleted-entry-id']
  if not total or not deleted or not before(deleted, id) then return 'whole' end
  if tonumber(total) > tonumber(info['length']) and first and before(id, first[1]) then
    return 'whole'
  end
  if first and #redis.call('XRANGE', stream, id, id) == 0 then return 'behind' end
  return 'whole'
end
local function mark_of(text)
  return string.match(text, '^(%d+) (%d+%-%d+) (%d+)$')
end
"""

# KEYS stream, mark; ARGV scope, token, producer ...
# -> by producer: `<seq>`, and where the stream goes on behind the mark, ` <mark's id> <last id>`;
# without a mark `absent` where there is no stream, else `none`; `rewound` when the stream is behind
# its mark.
CLAIM: Final = f"""{_STATE}
local stream, mark = KEYS[1], KEYS[2]
local kind, wrong = typed(stream, 'stream')
if wrong then return wrong end
local _, other = typed(mark, 'hash')
if other then return other end
local info = kind == 'stream' and info_of(stream)
local answer = {{}}
for i = 3, #ARGV do
  local text = redis.call('HGET', mark, ARGV[i])
  local seq, id, added
  if text then seq, id, added = mark_of(text) end
  if not text then answer[#answer + 1] = info and 'none' or 'absent'
  elseif not seq then return redis.error_reply('BAD mark of ' .. ARGV[i] .. ' in ' .. mark)
  elseif state(stream, info, id, added) ~= 'whole' then answer[#answer + 1] = 'rewound'
  elseif info and before(id, info['last-generated-id']) then
    answer[#answer + 1] = seq .. ' ' .. id .. ' ' .. info['last-generated-id']
  else answer[#answer + 1] = seq end
end
if redis.call('HGET', mark, 'owner:' .. ARGV[1]) ~= ARGV[2] then
  local done = redis.pcall('HSET', mark, 'owner:' .. ARGV[1], ARGV[2])
  if type(done) == 'table' and done['err'] then return done end
end
return answer
"""

# KEYS stream, mark; ARGV scope, token, producer, seq, id: what the stream itself was found to hold.
REMARK: Final = f"""{_STATE}
local stream, mark = KEYS[1], KEYS[2]
local kind, wrong = typed(stream, 'stream')
if wrong then return wrong end
local owner = redis.call('HGET', mark, 'owner:' .. ARGV[1])
if not owner then return redis.error_reply('UNCLAIMED ' .. mark) end
if owner ~= ARGV[2] then return redis.error_reply('FENCED ' .. mark) end
local added = 0
if kind == 'stream' then added = info_of(stream)['entries-added'] or 0 end
local text = ARGV[4] .. ' ' .. ARGV[5] .. ' ' .. string.format('%.0f', added)
local done = redis.pcall('HSET', mark, ARGV[3], text)
if type(done) == 'table' and done['err'] then return done end
return tonumber(ARGV[4])
"""

# KEYS stream, mark; ARGV scope, token, producer, first seq, base, former, strings an entry,
# strings ... `base` is the mark behind which a hole may follow, empty for none. `former` is the
# producer whose entries come before the first of this one, empty for none. -> the mark.
SHIP: Final = f"""{_STATE}
local stream, mark = KEYS[1], KEYS[2]
local first, base, former, width = tonumber(ARGV[4]), ARGV[5], ARGV[6], tonumber(ARGV[7])
local count = width and (#ARGV - 7) / width
if not first or not count or width < 2 or width % 2 ~= 0 or count < 1 or count % 1 ~= 0 then
  return redis.error_reply('BAD batch of ' .. #ARGV .. ' arguments')
end
local kind, wrong = typed(stream, 'stream')
if wrong then return wrong end
local _, other = typed(mark, 'hash')
if other then return other end
local known = redis.call('HMGET', mark, 'owner:' .. ARGV[1], ARGV[3], former)
if not known[1] then return redis.error_reply('UNCLAIMED ' .. mark) end
if known[1] ~= ARGV[2] then return redis.error_reply('FENCED ' .. mark) end
local seq, id, added = '0', '0-0', '0'
if known[2] then seq, id, added = mark_of(known[2]) end
if not seq then return redis.error_reply('BAD mark of ' .. ARGV[3] .. ' in ' .. mark) end
local info = kind == 'stream' and info_of(stream)
local found = state(stream, info, id, added)
if found == 'whole' and known[3] then
  local _, former_id, former_added = mark_of(known[3])
  if former_id then found = state(stream, info, former_id, former_added) end
end
if found ~= 'whole' then return redis.error_reply('REWOUND ' .. stream .. ' is ' .. found) end
local last = tonumber(seq)
local skip = last - first + 1
if skip >= count then return last end
if skip < 0 and base ~= seq then return redis.error_reply('GAP ' .. seq) end
if skip < 0 then skip = 0 end
local total = info and info['entries-added'] or 0
local owned = redis.pcall('HSET', mark, 'owner:' .. ARGV[1], ARGV[2])
if type(owned) == 'table' and owned['err'] then return owned end
local failed
for i = skip, count - 1 do
  local from = 8 + i * width
  local answer = redis.pcall('XADD', stream, '*', unpack(ARGV, from, from + width - 1))
  if type(answer) == 'table' and answer['err'] then failed = answer break end
  if type(answer) == 'table' then answer = answer['ok'] end
  last, id, total = first + i, answer, total + 1
end
if last ~= tonumber(seq) then
  redis.call('HSET', mark, ARGV[3], string.format('%.0f %s %.0f', last, id, total))
end
return failed or last
"""

# KEYS stream; ARGV end, begin, how many entries to look at, producer ... -> the oldest id looked at
# (empty when there are no more), then id, producer and seq of each entry of theirs, the newest
# first. Entries of others may be of any size: they stay where they are.
SEARCH: Final = """
local wanted, answer = {}, {''}
for i = 4, #ARGV do wanted[ARGV[i]] = true end
local page = redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
for _, entry in ipairs(page) do
  local producer, seq
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'producer' then producer = entry[2][i + 1] end
    if entry[2][i] == 'seq' then seq = entry[2][i + 1] end
  end
  if producer and wanted[producer] and seq and string.match(seq, '^%d+$') then
    for _, word in ipairs({entry[1], producer, seq}) do answer[#answer + 1] = word end
  end
end
if #page == tonumber(ARGV[3]) then answer[1] = page[#page][1] end
return answer
"""

# KEYS lease; ARGV ours, milliseconds, the one it may replace (empty: none, `*`: any) -> the holder.
LEASE: Final = """
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then  -- works without memory too, as SET does not
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return held
end
if held and held ~= ARGV[3] and ARGV[3] ~= '*' then return held end
local done = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if done['err'] then return done end
return ARGV[1]
"""

# KEYS lease; ARGV ours: gives it back, when it is still ours.
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


def digest(script: str) -> str:
    """Return the name by which Redis knows a loaded script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def mark_key(stream: str) -> str:
    """Return the key of a stream's mark, in the stream's own Cluster slot."""
    return f"bridge:mark:{{{stream}}}"

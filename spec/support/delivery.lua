-- SPDX-License-Identifier: MIT
-- The same bytes brought to a Stream in every manner: over TCP, a socketpair or a FIFO; one byte at
-- a time, in random pieces or all at once; while a task reads and before it does. Whatever the
-- manner, a reader has to see the same. Builds on net.lua and pipes.lua.
local assert = require "luassert"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"

local M = {}

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- ---- random numbers ----------------------------------------------------------

--- The seed of this process: SPEC_SEED, or another one each time.
M.seed = math.tointeger(tonumber(os.getenv("SPEC_SEED"))) or math.random(1, 1000000)

--- Random numbers that depend on nothing but the seed (xorshift).
-- @return function(low, high) that gives an integer
function M.random(seed)
  local state = seed * 2654435769 + 88172645463325252
  if state == 0 then state = 1 end
  return function(low, high)
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return low + (state >> 1) % (high - low + 1)
  end
end

-- ---- links -------------------------------------------------------------------

-- A connection from `far`, which writes, to `near`, which reads.
local Link = {}
Link.__index = Link
Link.__name = "Link"

--- Lets go of both ends. Awaits.
function Link.__close(self)
  self.near:abort()
  self.far:abort()
  if self.pair then self.pair:close() end
end

local makers = {}

function makers.TCP(limit)
  local pair = net.pair({ client = { limit = limit }, server = { limit = limit } })
  return { near = pair.client, far = pair.peer, pair = pair }
end

makers["a socketpair"] = function(limit)
  local near, far = moonloop.socketpair({ limit = limit })
  return { near = near, far = far }
end

makers["a FIFO"] = function(limit)
  local fifo <close> = pipes.fifo()
  local source, target = pipes.ends(fifo)
  return {
    near = moonloop.connect_read_pipe(source, { limit = limit }),
    far = moonloop.connect_write_pipe(target),
  }
end

--- What a link can be made of. Over the first two data go both ways.
M.KINDS = { "TCP", "a socketpair", "a FIFO" }

--- Two connected Streams, `near` and `far`, which a to-be-closed variable aborts. Awaits.
-- @param kind one of KINDS
-- @param limit bytes, the option of near (of both, over TCP and a socketpair)
function M.link(kind, limit)
  return setmetatable(makers[kind](limit), Link)
end

-- ---- manners -----------------------------------------------------------------

local function send_bytes(stream, data)
  net.trickle(stream, data, 1)
end

local function send_pieces(stream, data, seed)
  local random, first = M.random(seed), 1
  while first <= #data do
    local size = random(1, random(1, 2) == 1 and 4 or 40)
    stream:write(data:sub(first, first + size - 1))
    first = first + size
    if random(1, 3) > 1 then wait_all_blocked() end
  end
end

local function send_at_once(stream, data)
  stream:write(data)
end

M.MANNERS = {
  { name = "one byte at a time", send = send_bytes },
  { name = ("in random pieces (SPEC_SEED=%d)"):format(M.seed), send = send_pieces },
  { name = "all at once", send = send_at_once },
}

local Case = {}
Case.__index = Case

local function deliver(case, data, read, limit, early)
  local link <close> = M.link(case.kind, limit)
  local reader
  if early then
    reader = moonloop.create_task(read, link.near)
    wait_all_blocked()
  end
  case.manner.send(link.far, data, M.seed)
  link.far:write_eof()
  wait_all_blocked()
  reader = reader or moonloop.create_task(read, link.near)
  return reader:await()
end

--- Sends `data` and the end of file to a Stream, and has a task call `read(stream)`. That is done
-- twice, with a task that waits from the beginning and one that comes last. Awaits.
-- @param limit bytes, the Stream's option
-- @return what `read` returns, which has to be the same
function Case:deliver(data, read, limit)
  local early = deliver(self, data, read, limit, true)
  local late = deliver(self, data, read, limit, false)
  assert.same(early, late, "a reader that waits and one that comes later differ")
  return early
end

--- Every way in which data can come: a list of cases, each with a `name` and `deliver`.
function M.cases()
  local list = {}
  for _, kind in ipairs(M.KINDS) do
    for _, manner in ipairs(M.MANNERS) do
      local name = ("over %s, %s"):format(kind, manner.name)
      list[#list + 1] = setmetatable({ name = name, kind = kind, manner = manner }, Case)
    end
  end
  return list
end

return M

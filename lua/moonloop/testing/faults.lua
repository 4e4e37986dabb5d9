-- SPDX-License-Identifier: MIT
-- Two Streams with a bad network between them. Each is connected by TCP on loopback to a proxy,
-- which has a task for each direction: it passes on what comes, and also ends and resets as
-- such, but late, in other pieces, or not to the end.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local options = require "moonloop.options"
local sockets = require "moonloop.socket"
require "moonloop.streams"

local M = {}

local KNOWN = {
  delay = "number", split = "boolean or number or table", truncate_at = "number",
  reset_at = "number", seed = "number",
}

local HOST = "127.0.0.1"
local MOST = 65536 -- bytes that a direction holds
local NEVER = math.maxinteger
local LARGEST_POWER = 12 -- of two, for pieces of random sizes

-- ---- where to cut --------------------------------------------------------------

-- Random numbers of its own (xorshift): the program's are left alone.
local function random_numbers(seed)
  local state = seed * 2654435769 + 88172645463325252
  if state == 0 then state = 1 end
  return function(low, high)
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return low + (state >> 1) % (high - low + 1)
  end
end

-- Each way to cut is a function that gives, for a position, the next cut behind it. Cuts
-- depend on nothing but the seed, not on how the data come.
local function random_cuts(split, random)
  local cut = 0
  return function(at)
    while cut <= at do
      local largest = split == true and 1 << random(0, LARGEST_POWER) or split
      cut = cut + random(1, largest)
    end
    return cut
  end
end

local function listed_cuts(list)
  local i = 1
  return function(at)
    while list[i] and list[i] <= at do i = i + 1 end
    return list[i] or NEVER
  end
end

local function cuts(split, seed)
  if not split then return function() return NEVER end end
  if type(split) == "table" then return listed_cuts(split) end
  return random_cuts(split, random_numbers(seed))
end

-- ---- the proxy -----------------------------------------------------------------

-- A Proxy has two sockets and a Pump for each direction; to split it has two more, the Pumps'
-- clocks. `broken` is the socket that takes no more, `cut` tells that it has ended the
-- connection.
local Proxy = {}
local proxy_mt = { __index = Proxy }

local Pump = {}
local pump_mt = { __index = Pump }

local function close_all(list)
  for _, socket in ipairs(list) do socket:close() end
end

-- Resets both connections.
function Proxy:reset()
  for _, socket in ipairs(self.sockets) do
    if socket:fileno() >= 0 then
      pcall(socket.setsockopt, socket, "SO_LINGER", 0)
      socket:close()
    end
  end
end

function Proxy:pump_left()
  self.pumps = self.pumps - 1
  if self.pumps > 0 then return end
  close_all(self.sockets)
  close_all(self.clocks)
end

-- What to do where the connection is to fail.
local FAILURES = {}

function FAILURES.truncate(proxy)
  proxy.cut = true
  for _, socket in ipairs(proxy.sockets) do pcall(socket.shutdown, socket, "write") end
end

FAILURES.reset = Proxy.reset

-- ---- a direction ---------------------------------------------------------------

-- Waits until the loop has looked at the descriptors: at one, too, that is always ready.
function Pump:turn()
  local looked, fd = core.Future(), self.clock:fileno()
  core.add_writer(nil, fd, function()
    if not looked:done() then looked:set_result() end
  end)
  local _ <close> = blocks.on_leaving(function() core.remove_writer(nil, fd) end)
  looked:await()
end

-- Where a task of the other end reads, it has the piece before the next one follows.
function Pump:send(piece)
  if self.delay then core.sleep(self.delay) end
  if self.proxy.cut then return true end
  if not core.pcall(self.to.sendall, self.to, piece) then return false end
  if self.clock then self:turn() end
  return true
end

-- Returns whether the other side took it all.
function Pump:pass(data)
  local first = 1
  while first <= #data and self.at < self.stop do
    local size = math.min(#data - first + 1, self.next_cut(self.at) - self.at, self.stop - self.at)
    if not self:send(data:sub(first, first + size - 1)) then return false end
    first, self.at = first + size, self.at + size
  end
  return true
end

-- Returns how it ended.
function Pump:copy()
  while self.at < self.stop do
    local ok, data = core.pcall(self.from.recv, self.from, MOST)
    if not ok then return "reset" end
    if not data then return self.proxy.broken == self.from and "reset" or "end" end
    if not self:pass(data) then return "refused" end
  end
  return "stop"
end

-- Takes and drops what comes, so that its sender isn't held up, nor gets a reset.
function Pump:drop()
  repeat
    local ok, data = core.pcall(self.from.recv, self.from, MOST)
  until not (ok and data)
end

local ENDINGS = {}

ENDINGS["end"] = function(self)
  if self.delay then core.sleep(self.delay) end
  pcall(self.to.shutdown, self.to, "write")
end

function ENDINGS.reset(self) self.proxy:reset() end

-- What the other end sent before its reset is still passed on by the other direction.
function ENDINGS.refused(self)
  if self.proxy.pumps < 2 then return self.proxy:reset() end
  self.proxy.broken = self.to
  self:drop()
end

function ENDINGS.stop(self)
  FAILURES[self.failure](self.proxy)
  self:drop()
end

local function run_pump(self)
  local _ <close> = blocks.on_leaving(function() self.proxy:pump_left() end)
  ENDINGS[self:copy()](self)
end

-- ---- making one ----------------------------------------------------------------

-- Raises unless an option is nil or an integer, `least` or more.
local function check_integer(opts, option, least)
  local value = opts[option]
  if value == nil or math.tointeger(value) and value >= least then return end
  options.bad_argument(1, "fault_socketpair",
    ("option '%s': an integer of %d or more is expected"):format(option, least))
end

-- A table is sorted, but not the program's own.
local function check_split(opts)
  if type(opts.split) == "number" then check_integer(opts, "split", 1) end
  if type(opts.split) ~= "table" then return opts.split end
  local list = table.move(opts.split, 1, #opts.split, 1, {})
  for _, position in ipairs(list) do
    if math.type(position) ~= "integer" or position < 1 then
      options.bad_argument(1, "fault_socketpair",
        "option 'split': a list of positions is expected, integers of 1 or more")
    end
  end
  table.sort(list)
  return list
end

local function check(opts)
  opts = options.check(1, "fault_socketpair", opts, KNOWN)
  options.check_duration(1, "fault_socketpair", "delay", opts.delay)
  check_integer(opts, "truncate_at", 0)
  check_integer(opts, "reset_at", 0)
  check_integer(opts, "seed", math.mininteger)
  if opts.truncate_at and opts.reset_at then
    options.bad_argument(1, "fault_socketpair", "either 'truncate_at' or 'reset_at' is expected")
  end
  return opts, check_split(opts)
end

local function listen()
  return sockets.prepared(sockets.tcp(), function(socket)
    socket:bind({ host = HOST })
    socket:listen()
  end)
end

-- Another process may connect to the listener, too.
local function accept_own(listener, near)
  while true do
    local far, address = listener:accept()
    if address.port == near:getsockname().port then return far end
    far:close()
  end
end

-- Adds two connected Sockets to a list. Awaits.
local function add_tcp_pair(list)
  local listener <close> = listen()
  local near = sockets.connected(listener:getsockname())
  list[#list + 1] = near
  local far = accept_own(listener, near)
  list[#list + 1] = far
  near:setsockopt("TCP_NODELAY", true)
  far:setsockopt("TCP_NODELAY", true)
end

local function start(name, fn, ...)
  local task = core.task_new(name, nil, true, fn, ...)
  core.take(task)
  return core.set_internal(task)
end

local function new_pump(proxy, from, to, opts, split, seed)
  return setmetatable({
    proxy = proxy, from = proxy.sockets[from], to = proxy.sockets[to], clock = proxy.clocks[from],
    at = 0, stop = NEVER, delay = opts.delay, next_cut = cuts(split, seed),
  }, pump_mt)
end

local function start_pumps(proxy, opts, split)
  local seed = opts.seed or math.random(0)
  local there = new_pump(proxy, 1, 2, opts, split, seed)
  local back = new_pump(proxy, 2, 1, opts, split, ~seed)
  there.stop = opts.truncate_at or opts.reset_at or NEVER
  there.failure = opts.truncate_at and "truncate" or "reset"
  return { start("fault_socketpair", run_pump, there), start("fault_socketpair", run_pump, back) }
end

-- Ends the pumps when both streams are closed, whatever is still under way.
local function watch(a, b, pumps)
  core.pcall(core.stream_wait_closed, a)
  core.pcall(core.stream_wait_closed, b)
  for _, task in ipairs(pumps) do task:cancel() end
end

-- All sockets there are to be: of the first stream and the proxy's for it, of the second
-- and the proxy's, the clocks. Awaits.
local function connect(split)
  local list = {}
  local ok, err = pcall(function()
    add_tcp_pair(list)
    add_tcp_pair(list)
    if split then list[5], list[6] = core.socketpair("stream") end
  end)
  if ok then return list end
  close_all(list)
  error(err, 0)
end

--- Makes two Streams with a bad network between them: TCP connections on loopback, and what
-- passes on from each to the other, also half-closing, closing and resets. Both directions
-- are delayed and split. Awaits.
-- @function testing.fault_socketpair
-- @param[opt] opts table: `delay` (seconds before each piece, and before an end), `split`
-- (true: pieces of random sizes; an integer: of 1 to so many bytes; a list: the positions
-- in the bytes of each direction at which to cut), `truncate_at` (bytes from the first
-- stream to the second: after these both get an end of file, and what they still send
-- is dropped), `reset_at` (the same with a reset), `seed` (an integer that makes `split`
-- repeatable)
-- @return Stream, Stream
-- @raise OSError, code EMFILE when descriptors are out; bad argument for an option that
-- does not exist or of another type; see Awaiting functions
function M.fault_socketpair(opts)
  local split
  opts, split = check(opts)
  local a, near, b, far, clock, other_clock = table.unpack(connect(split))
  a, b = core.stream(a), core.stream(b)
  local proxy = { sockets = { near, far }, clocks = { clock, other_clock }, pumps = 2 }
  start("fault_socketpair", watch, a, b,
    start_pumps(setmetatable(proxy, proxy_mt), opts, split))
  return a, b
end

return M

-- SPDX-License-Identifier: MIT
-- A DNS server that the specs' own loop runs on loopback, UDP and TCP on one port, and that answers
-- as it is told: rightly, late, not at all, cut short, or wrongly in many ways. It remembers what
-- it is asked. Builds on datagrams and start_server with numeric hosts, and on dns_packet.lua.
local moonloop = require "moonloop"
local packet = require "spec.support.dns_packet"

local M = {}

local PATIENCE = 30 -- seconds in which the queries that a spec waits for have to come
local MOST_TRIES = 50 -- for a port that is free for both UDP and TCP

local Server = {}
Server.__index = Server
Server.__name = "DNSServer"

-- ---- what it is told ---------------------------------------------------------

local function key(name, type)
  return name:lower():gsub("%.$", "") .. " " .. type
end

--- Says what to answer from now on: the replies in turn, the last one again and again. A reply is a
-- list of records (see dns_packet.lua, whose other fields it may have), with, where wanted:
--   gate        a Future, to be done before the answer goes out
--   silent      no answer
--   truncated   over UDP the bit TC and no record; over TCP all
--   bytes       the packet as it is, or a function of query and reply that gives it
--   before      a list of replies to send first
--   tcp         "close": instead of an answer; "short": ends in the midst of it; "last": behind it;
--               "pieces": byte by byte; "reset": as close, but by a reset
--   source      "other": the answer comes from another port
-- A name with no reply for a type has no such record; any other name does not exist.
function Server:on(name, type, ...)
  self.replies[key(name, type)] = { ... }
  self.names[key(name, "")] = true
  return self
end

function Server:reply_to(query)
  local replies = self.replies[key(query.name, query.type)]
  if not replies then
    return self.names[key(query.name, "")] and {} or { rcode = "NXDOMAIN" }
  end
  return #replies > 1 and table.remove(replies, 1) or replies[1]
end

--- The number of queries so far: for a name, and a type, where they are given.
function Server:count(name, type)
  local count = 0
  for _, query in ipairs(self.queries) do
    local counts = (not name or query.name == name) and (not type or query.type == type)
    if counts then count = count + 1 end
  end
  return count
end

--- Waits until there have been that many queries. Awaits.
function Server:wait_for(count)
  local _ <close> = moonloop.timeout(PATIENCE)
  while #self.queries < count do
    self.came = moonloop.Future()
    self.came:await()
  end
end

--- What was asked so far, in order: a list of "name type".
function Server:asked()
  local list = {}
  for i, query in ipairs(self.queries) do list[i] = key(query.name, query.type) end
  return list
end

-- ---- answering ---------------------------------------------------------------

local function bytes_of(query, reply, transport)
  if type(reply.bytes) == "function" then return reply.bytes(query, reply) end
  if reply.bytes then return reply.bytes end
  if not reply.truncated then return packet.reply(query, reply) end
  if transport == "udp" then return packet.reply(query, { truncated = true }) end
  local whole = setmetatable({ truncated = false }, { __index = reply })
  return packet.reply(query, table.move(reply, 1, #reply, 1, whole))
end

function Server:take(bytes, transport, from)
  local query = packet.read_query(bytes)
  query.transport, query.from, query.bytes = transport, from, bytes
  self.queries[#self.queries + 1] = query
  if self.came and not self.came:done() then self.came:set_result() end
  local reply = self:reply_to(query)
  if reply.gate then reply.gate:await() end
  return query, reply
end

function Server:send(bytes, to, reply)
  if reply.source ~= "other" then return self.udp:send(bytes, to) end
  local other <close> = moonloop.open_datagram { local_addr = { host = self.host, port = 0 } }
  other:send(bytes, to)
end

function Server:answer_datagram(bytes, from)
  local query, reply = self:take(bytes, "udp", from)
  for _, early in ipairs(reply.before or {}) do
    self:send(bytes_of(query, early, "udp"), from, early)
  end
  if not reply.silent then self:send(bytes_of(query, reply, "udp"), from, reply) end
end

function Server:serve_datagrams()
  while true do
    local bytes, from = self.udp:recv()
    local task
    task = moonloop.create_task({ name = "DNS answer" }, function()
      local _ <close> = moonloop.defer(function() self.tasks[task] = nil end)
      self:answer_datagram(bytes, from)
    end)
    self.tasks[task] = true
  end
end

-- Whether the connection is to go on.
local function write_answer(stream, bytes, how)
  local framed = string.pack(">s2", bytes)
  if how == "short" then
    stream:write(framed:sub(1, #framed // 2))
    return false
  end
  if how ~= "pieces" then
    stream:write(framed)
    return how ~= "last"
  end
  for i = 1, #framed do
    stream:write(framed:sub(i, i))
    moonloop.sleep(0)
  end
  return true
end

function Server:answer_stream(stream, bytes)
  local query, reply = self:take(bytes, "tcp", stream:get_extra_info("peername"))
  if reply.tcp == "close" then return false end
  if reply.tcp == "reset" then
    stream:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
    stream:abort()
    return false
  end
  if reply.silent then return true end
  return write_answer(stream, bytes_of(query, reply, "tcp"), reply.tcp)
end

-- The resolver may go away at any time.
function Server:serve_stream(stream)
  self.connections = self.connections + 1
  local ok, err = moonloop.pcall(function()
    local head = stream:readexactly(2)
    while head do
      local bytes = stream:readexactly((string.unpack(">I2", head)))
      if not self:answer_stream(stream, bytes) then return end
      head = stream:readexactly(2)
    end
  end)
  if not ok and not moonloop.is_error(err, "ConnectionError") then error(err, 0) end
end

-- ---- starting and ending -----------------------------------------------------

local function listen(self, port, with_tcp)
  self.udp = moonloop.open_datagram { local_addr = { host = self.host, port = port } }
  self.port = self.udp:getsockname().port
  if not with_tcp then return end
  local ok, made = pcall(moonloop.start_server, function(stream) self:serve_stream(stream) end,
    self.host, self.port)
  if ok then
    self.tcp = made
  else
    self.udp:close()
    error(made, 0)
  end
end

local function listen_somewhere(self, opts)
  local err
  for _ = 1, opts.port and 1 or MOST_TRIES do
    local ok
    ok, err = pcall(listen, self, opts.port or 0, opts.tcp ~= false)
    if ok then return end
    if not moonloop.is_error(err, "AddressInUseError") then break end
  end
  error(err, 0)
end

--- Starts one, which a to-be-closed variable ends. Awaits.
-- @param opts `host` (127.0.0.1), `port` (a free one), `tcp` (false: nobody takes TCP there)
-- @return DNSServer with `host`, `port`, `address` (both as servers= takes them), `queries` (each
-- with `name`, `type`, `id`, `transport`, `from`) and `connections`, the number of TCP ones
function M.start(opts)
  opts = opts or {}
  local self = setmetatable({
    host = opts.host or "127.0.0.1", replies = {}, names = {}, queries = {}, tasks = {},
    connections = 0,
  }, Server)
  listen_somewhere(self, opts)
  local six = self.host:find(":", 1, true)
  self.address = (six and "[%s]:%d" or "%s:%d"):format(self.host, self.port)
  self.receiver = moonloop.create_task({ name = "DNS server" }, self.serve_datagrams, self)
  return self
end

--- Has all look-ups that name no servers ask this one, until it is closed.
function Server:use()
  moonloop.dns.set_servers { self.address }
  self.used = true
  return self
end

local function stop(task)
  task:cancel()
  pcall(moonloop.await, task)
end

--- Stops it at once, whatever it was told; may be called twice. Awaits.
function Server:close()
  if self.closed then return end
  self.closed = true
  if self.used then moonloop.dns.set_servers(nil) end
  stop(self.receiver)
  local tasks = {}
  for task in pairs(self.tasks) do tasks[#tasks + 1] = task end
  for _, task in ipairs(tasks) do stop(task) end
  self.udp:close()
  if self.tcp then local _ <close> = self.tcp end
end

Server.__close = Server.close

--- An address at which nobody answers, over UDP or TCP. Awaits.
function M.dead()
  local server <close> = M.start()
  return server.address
end

return M

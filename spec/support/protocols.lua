-- SPDX-License-Identifier: MIT
-- Protocols for the specs of the callback layer: a recorder writes down what is called
-- on it and checks what has to hold for every connection, and pairs of recorders are
-- connected to each other in every way there is. Builds on the public names only.
local moonloop = require "moonloop"

local M = {}

local PATIENCE = 30 -- seconds after which a spec that waits in vain fails

-- ---- recorders ---------------------------------------------------------------

local Recorder = {}
Recorder.__index = Recorder
Recorder.__name = "Recorder"

--- A protocol that writes down what is called on it: in `log`, where data that comes
-- in several pieces stands once, and in `chunks`, `size`, `datagrams`, `errors`, `err`
-- (what connection_lost got). `broken` lists the promises that were not kept.
-- @param extra functions called from within the callbacks of the same name, with the
--   same arguments; what they return is returned
function M.recorder(extra)
  return setmetatable({
    log = {}, chunks = {}, size = 0, datagrams = {}, errors = {}, broken = {}, waiting = {},
    extra = extra or {},
  }, Recorder)
end

local INPUT = { data = true, eof = true }

local function check_input(self, label, data)
  if self.ended then return label .. " after the end of file" end
  if self.transport:is_closing() then return label .. " while it closes" end
  if not self.transport:is_reading() then return label .. " while reading is paused" end
  if data == "" then return "no data at all" end
end

local function check_flow(self, label)
  if label == "pause" and self.paused then return "paused twice" end
  if label == "resume" and not self.paused then return "resumed without a pause" end
end

local function check_place(self, label)
  if self.is_lost then return label .. " after connection_lost" end
  if (label == "made") ~= (#self.log == 0) then return label .. " in place " .. #self.log + 1 end
  if label == "pause" then return end -- the one that is called from within a write
  if self.inside then return label .. " inside " .. self.inside end
  if moonloop.current_task() then return label .. " in a task" end
end

local function note(self, label, ...)
  self.broken[#self.broken + 1] = check_place(self, label) or check_flow(self, label)
    or INPUT[label] and check_input(self, label, ...) or nil
  if self.log[#self.log] ~= label or not INPUT[label] then self.log[#self.log + 1] = label end
end

-- Lets those go on who wait for what holds now.
local function wake(self)
  local left = {}
  for _, waiter in ipairs(self.waiting) do
    if not waiter.holds(self) then
      left[#left + 1] = waiter
    elseif not waiter.future:done() then
      waiter.future:set_result()
    end
  end
  self.waiting = left
end

local inside_mt = { __close = function(place) place.recorder.inside = place.outer end }

local function call_extra(self, name, label, ...)
  local extra = self.extra[name]
  if not extra then return end
  local _ <close> = setmetatable({ recorder = self, outer = self.inside }, inside_mt)
  self.inside = label
  return extra(self, ...)
end

local function callback(name, label, keep)
  Recorder[name] = function(self, ...)
    note(self, label, ...)
    keep(self, ...)
    wake(self)
    return call_extra(self, name, label, ...)
  end
end

callback("connection_made", "made", function(self, transport) self.transport = transport end)
callback("data_received", "data", function(self, data)
  self.size = self.size + #data
  if not self.discards then self.chunks[#self.chunks + 1] = data end
end)
callback("eof_received", "eof", function(self) self.ended = true end)
callback("pause_writing", "pause", function(self) self.paused = true end)
callback("resume_writing", "resume", function(self) self.paused = false end)
callback("connection_lost", "lost", function(self, err) self.is_lost, self.err = true, err end)
callback("datagram_received", "datagram", function(self, data, addr)
  self.datagrams[#self.datagrams + 1] = { data = data, addr = addr }
end)
callback("error_received", "error", function(self, err) self.errors[#self.errors + 1] = err end)

--- Waits until `holds(self)` after one of the callbacks. Awaits.
function Recorder:wait(holds)
  if holds(self) then return end
  local future = moonloop.Future()
  self.waiting[#self.waiting + 1] = { holds = holds, future = future }
  local _ <close> = moonloop.timeout(PATIENCE)
  future:await()
end

--- Waits for connection_lost. Awaits.
-- @return what it was given
function Recorder:lost()
  self:wait(function() return self.is_lost end)
  return self.err
end

--- Waits until that many bytes have come in all, and no more. Awaits.
-- @return all that has come
function Recorder:received(count)
  self:wait(function() return self.size >= count end)
  return self:text()
end

--- Waits until that many datagrams have come. Awaits.
-- @return the list of them
function Recorder:received_datagrams(count)
  self:wait(function() return #self.datagrams >= count end)
  return self.datagrams
end

--- Waits until eof_received has been called. Awaits.
-- @return all that has come
function Recorder:finished()
  self:wait(function() return self.ended end)
  return self:text()
end

--- All that has come as one string.
function Recorder:text()
  return table.concat(self.chunks)
end

--- The callbacks in order, as one string.
function Recorder:order()
  return table.concat(self.log, " ")
end

--- Raises unless every promise was kept so far.
function Recorder:check()
  if #self.broken == 0 then return end
  error(("%s (all calls: %s)"):format(table.concat(self.broken, ", "), self:order()), 0)
end

-- ---- pairs -------------------------------------------------------------------

local serial = 0

--- An abstract name for a Unix socket which nobody else has.
function M.abstract_name()
  serial = serial + 1
  return ("\0moonloop-spec-%s-%d-%d"):format(tostring(M):match("0x(%x+)"), os.time(), serial)
end

local function loop()
  return moonloop.get_running_loop()
end

local function answering(protocol)
  return function() return protocol end
end

local connect = {}

function connect.tcp(client, peer, opts)
  local host = opts.host or "127.0.0.1"
  local server = loop():create_server(answering(peer), host, 0, opts.server_options)
  loop():create_connection(answering(client), host, server:port(), opts.client_options)
  return server
end

function connect.unix(client, peer, opts)
  local path = M.abstract_name()
  local server = loop():create_unix_server(answering(peer), path, opts.server_options)
  loop():create_unix_connection(answering(client), path, opts.client_options)
  return server
end

function connect.socketpair(client, peer)
  local one, other = moonloop.socket.socketpair()
  loop():connect_accepted_socket(answering(client), one)
  loop():connect_accepted_socket(answering(peer), other)
end

--- The ways in which `pair` connects, in the order in which to try them.
M.kinds = { "tcp", "unix", "socketpair" }

local Pair = {}
Pair.__index = Pair
Pair.__name = "Pair"

local function finish(self)
  for _, recorder in ipairs { self.client, self.peer } do
    if recorder.transport then
      recorder.transport:abort()
      recorder:lost()
    end
  end
end

local function check(self)
  for name, recorder in pairs { client = self.client, peer = self.peer } do
    local ok, err = pcall(recorder.check, recorder)
    if not ok then error(("the %s's protocol: %s"):format(name, err), 0) end
  end
end

--- Aborts both ends, waits until both know, closes the server, and checks that every
-- promise was kept unless it is an error that ends the block. Awaits.
function Pair.__close(self, err)
  local ok, failure = pcall(finish, self)
  if self.server then
    self.server:close()
    self.server:wait_closed()
  end
  if err ~= nil then return end
  if not ok then error(failure, 0) end
  moonloop.testing.wait_all_blocked()
  check(self)
end

--- Two recorders connected to each other, `client` and `peer`, and the `server`
-- between them where there is one. A to-be-closed variable lets go of all. Awaits.
-- @param opts `client` and `peer`: `extra` of either recorder; `kind` (see `kinds`);
--   `host`; `client_options` and `server_options`: of the calls that connect
function M.pair(opts)
  opts = opts or {}
  local self = setmetatable({
    client = M.recorder(opts.client), peer = M.recorder(opts.peer),
  }, Pair)
  self.server = connect[opts.kind or "tcp"](self.client, self.peer, opts)
  self.peer:wait(function(peer) return peer.transport end)
  return self
end

-- ---- what is done to them ----------------------------------------------------

local CHUNK = ("0123456789abcdef"):rep(4096)

--- Writes until the other end, which does not read, takes no more. Awaits.
-- @return the number of bytes written, those still in the buffer included
function M.fill(recorder)
  local count = 0
  while not recorder.paused do
    repeat
      recorder.transport:write(CHUNK)
      count = count + #CHUNK
      assert(count < 256 * 1024 * 1024, "pause_writing is never called")
    until recorder.paused
    -- Not for a task: the system goes on moving from buffer to buffer for a while.
    moonloop.sleep(0.02)
    moonloop.testing.wait_all_blocked()
  end
  return count
end

--- Whether `text` is what `fill` wrote, as far as it goes.
function M.is_filling(text)
  local whole = CHUNK:rep(#text // #CHUNK) .. CHUNK:sub(1, #text % #CHUNK)
  return text == whole
end

--- Ends a TCP transport so that its peer gets a reset.
function M.reset(transport)
  transport:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
  transport:abort()
end

--- Connects a Stream to a server whose connections have `protocol`, and waits until
-- its connection_made has been called. Awaits.
-- @return Stream, Server
function M.beside_stream(protocol)
  local server = loop():create_server(answering(protocol), "127.0.0.1", 0)
  local stream = moonloop.connect("127.0.0.1", server:port())
  protocol:wait(function() return protocol.transport end)
  return stream, server
end

return M

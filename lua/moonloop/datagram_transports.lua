-- SPDX-License-Identifier: MIT
-- Datagrams for protocols: the loop's reader callback receives and calls the
-- protocol; what the system has no room for is queued and sent by its writer
-- callback.

local core = require "moonloop.core"
local addresses = require "moonloop.addresses"
local datagrams = require "moonloop.datagrams"
local extra_info = require "moonloop.extra_info"
local names = require "moonloop.names"
local options = require "moonloop.options"
local protocols = require "moonloop.protocols"
local run = require "moonloop.run"
local socket = require "moonloop.socket"

local M = {}

local OPTIONS = options.with(datagrams.OPTIONS, { sock = "any" })

local HIGH_WATER, LOW_WATER = 65536, 16384
local RETRY_SECONDS = 0.01
local RECEIVE_AT_ONCE = 32 -- datagrams in one callback

local Transport = {}
local transport_mt = { __index = Transport, __name = "moonloop.DatagramTransport" }

-- ---- calling the protocol ------------------------------------------------------

local open = run.register(function(transport) -- those that are not over
  if not transport.closing then transport:abort() end
  transport.ended:await()
end, function(transport) transport:abort() end)

local call

-- Closes; the protocol is told from the loop.
local function finish(self)
  if self.over then return end
  self.over, self.closing = true, true
  self.sockname, self.peername = self:get_extra_info("sockname"), self:get_extra_info("peername")
  local fd = self.socket:fileno()
  if fd >= 0 then
    core.remove_reader(nil, fd)
    core.remove_writer(nil, fd)
  end
  self.socket:close()
  self.queue, self.first, self.last, self.size = {}, 1, 0, 0
  core.call_soon(nil, function()
    if self.made then call(self, "connection_lost", self.error) end
    open:remove(self)
    self.ended:set_result()
  end)
end

-- Calls a method; one that raises is reported and the transport aborted.
function call(self, name, ...)
  local method = self.protocol[name]
  if not method then return end
  local ok, err = core.call_outside(method, self.protocol, ...)
  if ok then return end
  core.call_exception_handler(nil, {
    message = "error in a protocol's " .. name, error = err, transport = self,
    protocol = self.protocol, traceback = core.traceback_of_error(err),
  })
  if self.over then return end
  self.error = err
  finish(self)
end

-- ---- receiving -----------------------------------------------------------------

local function on_readable(self)
  for _ = 1, RECEIVE_AT_ONCE do
    if self.closing then return end
    local ok, data, addr = pcall(self.socket.try_recvfrom, self.socket)
    if not ok then
      call(self, "error_received", data)
    elseif data then
      call(self, "datagram_received", data, addr)
    else
      return
    end
  end
end

-- ---- sending -------------------------------------------------------------------

local function resume_if_drained(self)
  if self.paused and self.size <= self.low and not self.over then
    self.paused = false
    call(self, "resume_writing")
  end
end

local function is_empty(self) return self.queue[self.first] == nil end

-- Sends one. Returns whether it is done with, also when it met an error.
local function send(self, data, addr)
  local ok, sent = pcall(self.socket.try_send, self.socket, data, addr)
  if ok then return sent end
  core.call_soon(nil, function()
    if not self.over then call(self, "error_received", sent) end
  end)
  return true
end

local function send_queued(self)
  while not self.over and not is_empty(self) do
    local entry = self.queue[self.first]
    if not send(self, entry[1], entry[2]) then return end
    self.queue[self.first] = nil
    self.first = self.first + 1
    self.size = self.size - #entry[1]
  end
end

local when_writable

local function on_writable(self)
  if self.over then return end
  send_queued(self)
  resume_if_drained(self)
  if self.over then return end
  if not is_empty(self) then return when_writable(self) end
  core.remove_writer(nil, self.socket:fileno())
  self.watching = false
  if self.closing then finish(self) end
end

-- A Unix socket without a remote address is always called writable.
function when_writable(self)
  if self.family == "unix" and not self.connected then
    core.call_later(nil, RETRY_SECONDS, on_writable, self)
  elseif not self.watching then
    self.watching = true
    core.add_writer(nil, self.socket:fileno(), on_writable, self)
  end
end

local function enqueue(self, data, addr)
  if is_empty(self) then
    self.queue, self.first, self.last = {}, 1, 0
    when_writable(self)
  end
  self.last = self.last + 1
  self.queue[self.last] = { data, addr }
  self.size = self.size + #data
end

local function pause_if_full(self)
  if not self.paused and self.size > self.high then
    self.paused = true
    call(self, "pause_writing")
  end
end

-- Who is connected sends to that address only.
local function check_remote(self, addr)
  local remote = self.connected and self:get_extra_info("peername")
  if remote and (remote.host ~= addr.host or remote.port ~= addr.port
    or remote.path ~= addr.path) then
    options.bad_argument(2, "sendto", "another address than the remote one")
  end
end

-- To look for a name would be to wait.
local function check_known(addr)
  local host = type(addr) == "table" and addr.host
  if type(host) == "string" and not names.known(host) then
    options.bad_argument(2, "sendto", ("a numeric host is expected, got '%s'"):format(host))
  end
end

--- Sends a datagram, or queues it: it never waits. Above the high-water mark the
-- protocol's `pause_writing` is called.
-- @function DatagramTransport:sendto
-- @param data string
-- @param[opt] addr {host=, port=} or {path=}, the host numeric; nil for the remote
-- address
-- @raise InvalidStateError after `close` or `abort`, or without any address
-- @see asyncio.DatagramTransport.sendto
function Transport:sendto(data, addr)
  data = tostring(options.check_type(1, "sendto", data, "string or number"))
  if addr ~= nil then
    check_known(addr)
    addr = addresses.numeric(2, "sendto", addr, self.family)
    check_remote(self, addr)
  elseif not self.connected then
    core.raise("InvalidStateError", "no address to send to: there is no remote address")
  end
  if self.closed_here then core.raise("InvalidStateError", "the transport is closed") end
  if self.closing then return end
  if is_empty(self) and send(self, data, addr) or self.over then return end
  enqueue(self, data, addr)
  pause_if_full(self)
end

-- ---- the rest ------------------------------------------------------------------

--- Sends what is queued, then closes. Twice is fine.
-- @function DatagramTransport:close
-- @see asyncio.BaseTransport.close
function Transport:close()
  if self.closing then return end
  self.closing, self.closed_here = true, true
  core.remove_reader(nil, self.socket:fileno())
  if is_empty(self) then finish(self) end
end

--- Closes at once.
-- @function DatagramTransport:abort
-- @see asyncio.DatagramTransport.abort
function Transport:abort()
  self.closed_here = self.closed_here or not self.closing
  finish(self)
end

--- Tells whether it is closed, or closing.
-- @function DatagramTransport:is_closing
-- @see asyncio.BaseTransport.is_closing
function Transport:is_closing() return self.closing end

--- Gives the descriptor, which stays the transport's.
-- @function DatagramTransport:fileno
-- @return integer, -1 when closed
function Transport:fileno() return self.socket:fileno() end

local getters = {
  sockname = function(self) return self.sockname or self.socket:getsockname() end,
  peername = function(self) return self.peername or self.socket:getpeername() end,
}

function getters.socket(self)
  return extra_info.transport_socket(self, getters.sockname, getters.peername)
end

--- Asks about what is below.
-- @function DatagramTransport:get_extra_info
-- @param name string: "sockname", "peername" or "socket"
-- @param[opt] default any value, returned for what is not known
-- @see asyncio.BaseTransport.get_extra_info
function Transport:get_extra_info(name, default)
  options.check_type(1, "get_extra_info", name, "string")
  local getter = getters[name]
  local ok, value = pcall(getter or error, self)
  if ok and value ~= nil then return value end
  return default
end

local function check_mark(position, name, mark)
  if mark ~= nil and math.type(mark) ~= "integer" then
    options.bad_argument(position, name, "integer expected, got " .. options.type_name(mark))
  end
end

--- Sets when the protocol is told to stop writing, and to go on.
-- @function DatagramTransport:set_write_buffer_limits
-- @param[opt] high integer, bytes (4 * low, or 64 KiB)
-- @param[opt] low integer, bytes (high / 4)
-- @see asyncio.WriteTransport.set_write_buffer_limits
function Transport:set_write_buffer_limits(high, low)
  local name = "set_write_buffer_limits"
  check_mark(1, name, high)
  check_mark(2, name, low)
  high = high or low and 4 * low or HIGH_WATER
  low = low or high // 4
  if low < 0 or low > high then
    options.bad_argument(2, name, "the low mark is above the high one, or negative")
  end
  self.high, self.low = high, low
  pause_if_full(self)
end

--- Gives the water marks.
-- @function DatagramTransport:get_write_buffer_limits
-- @return integers: low, high
-- @see asyncio.WriteTransport.get_write_buffer_limits
function Transport:get_write_buffer_limits() return self.low, self.high end

--- Gives the number of bytes that are queued.
-- @function DatagramTransport:get_write_buffer_size
-- @return integer
-- @see asyncio.WriteTransport.get_write_buffer_size
function Transport:get_write_buffer_size() return self.size end

--- Has another protocol be called from now on.
-- @function DatagramTransport:set_protocol
-- @param protocol table
-- @see asyncio.BaseTransport.set_protocol
function Transport:set_protocol(protocol)
  options.check_type(1, "set_protocol", protocol, "table")
  self.protocol = protocol
end

--- Gives the protocol.
-- @function DatagramTransport:get_protocol
-- @return table
-- @see asyncio.BaseTransport.get_protocol
function Transport:get_protocol() return self.protocol end

--- Joins a multicast group.
-- @function DatagramTransport:join
-- @param group string, a numeric address
-- @param[opt] interface string or integer
-- @raise OSError; InvalidStateError when closed
function Transport:join(group, interface)
  datagrams.change_group("join", self.socket, "join", group, interface)
end

--- Leaves a multicast group.
-- @function DatagramTransport:leave
-- @param group string, a numeric address
-- @param[opt] interface as of `join`
-- @raise OSError; InvalidStateError when closed
function Transport:leave(group, interface)
  datagrams.change_group("leave", self.socket, "leave", group, interface)
end

function transport_mt:__tostring()
  return (tostring(self.socket):gsub("^Socket", "DatagramTransport"))
end

-- ---- making one ----------------------------------------------------------------

local function begin(self)
  if self.closing then return end -- nobody waits any more
  self.made = true
  call(self, "connection_made", self)
  if self.closing then return end
  core.add_reader(nil, self.socket:fileno(), on_readable, self)
end

local function open_socket(name, opts)
  if opts.sock == nil then return datagrams.open_socket(2, name, opts) end
  for option in pairs(opts) do
    if option ~= "sock" then
      options.bad_argument(2, name, ("option '%s' beside the option 'sock'"):format(option))
    end
  end
  local given = socket.check_given(2, name, opts.sock)
  if select(2, socket.family_of(given)) ~= "dgram" then
    options.bad_argument(2, name, "option 'sock': a datagram socket is expected")
  end
  return core.socket_from_fd(given:detach())
end

local function is_connected(made) return (pcall(made.getpeername, made)) end

--- Opens a datagram socket and has a protocol called. Awaits until its
-- `connection_made` was called.
-- @function Loop:create_datagram_endpoint
-- @param factory function that gives a protocol, or a class of
-- `DatagramProtocol:extend`
-- @param[opt] opts table, as of `moonloop.open_datagram`, and `sock` (a bound datagram
-- Socket or its descriptor, instead of addresses)
-- @return DatagramTransport, protocol
-- @raise AddressInUseError or another OSError; DNSError; what the factory raises; see
-- Awaiting functions
-- @see asyncio.loop.create_datagram_endpoint
function M.create_datagram_endpoint(_, factory, opts)
  local name = "create_datagram_endpoint"
  options.check_callable(1, name, factory)
  opts = options.check(2, name, opts, OPTIONS)
  core.check()
  local protocol = protocols.make(factory)
  local made = open_socket(name, opts)
  local self = setmetatable({
    socket = made, protocol = protocol, queue = {}, first = 1, last = 0, size = 0,
    high = HIGH_WATER, low = LOW_WATER, closing = false, over = false, ended = core.Future(),
    family = (socket.family_of(made)), connected = is_connected(made),
  }, transport_mt)
  open:add(self)
  local begun = core.Future()
  core.call_soon(nil, function()
    begin(self)
    if not begun:done() then begun:set_result() end
  end)
  local ok, err = pcall(begun.await, begun)
  if ok then return self, protocol end
  self:abort()
  error(err, 0)
end

return M

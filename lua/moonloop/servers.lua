-- SPDX-License-Identifier: MIT
-- TCP servers: a task accepts on each listening socket and makes a task of the
-- handler for each connection. A connection lasts until its handler has ended
-- and its data is out.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local names = require "moonloop.names"
local options = require "moonloop.options"
local streams = require "moonloop.streams"

local M = {}

local OPTIONS = {
  backlog = "number",
  reuse_port = "boolean",
  limit = "number",
  family = "string",
  start_serving = "boolean",
  max_connections = "number",
  sock = "any",
  tls = "any",
  tls_handshake_timeout = "number",
}

local NOT_YET = { "tls", "tls_handshake_timeout", "sock" }

local Server = {}
local server_mt = { __index = Server, __name = "moonloop.Server" }

local function check_server(self, name)
  if getmetatable(self) ~= server_mt then
    options.bad_argument(1, name, "Server expected, got " .. type(self))
  end
  return self
end

-- ---- connections -------------------------------------------------------------

local function check_ended(self)
  if not self.closed or next(self.connections) then return end
  if not self.ended:done() then self.ended:set_result() end
end

-- Lets a paused acceptor go on.
local function free_slot(self)
  local slot = self.slot
  self.slot = nil
  if slot then slot:set_result() end
end

local function forget(self, task)
  self.connections[task] = nil
  self.count = self.count - 1
  free_slot(self)
  check_ended(self)
end

local function report(task, stream, err)
  core.call_exception_handler(nil, {
    message = ("error in the handler of a connection (task '%s')"):format(task:get_name()),
    error = err, task = task, stream = stream,
    traceback = core.traceback_of(task), created_at = core.site_of(task),
  })
end

-- The handler of a connection has ended: a callback, so it must not wait.
local function on_handler_end(self, task)
  local stream = self.connections[task]
  if task:cancelled() then
    stream:abort()
  else
    local ok, err = pcall(task.result, task)
    if not ok then report(task, stream, err) end
    stream:close()
  end
  if stream:fileno() < 0 then return forget(self, task) end
  core.task_new("close", nil, false, function() -- until its data is out
    local _ <close> = blocks.on_leaving(function() forget(self, task) end)
    core.pcall(stream.wait_closed, stream)
  end)
end

local function serve_connection(self, stream)
  local task = core.task_new(nil, nil, false, self.handler, stream, stream)
  self.connections[task] = stream
  self.count = self.count + 1
  core.watch(task, self.on_end)
end

-- ---- accepting ---------------------------------------------------------------

local EXHAUSTED = { EMFILE = true, ENFILE = true, ENOBUFS = true, ENOMEM = true }

-- Out of descriptors: said once, tried again when some may be free.
local function wait_for_descriptors(self, err)
  if not self.exhausted then
    self.exhausted = true
    core.call_exception_handler(nil, {
      message = "the server cannot accept connections for now; trying again", error = err,
    })
  end
  core.sleep(0.1)
end

-- Accepting pauses at the bound. Another listener's connection may have filled
-- it while this one was accepted, so it is looked at before and after.
local function wait_for_slot(self)
  while not self.closed and self.max_connections and self.count >= self.max_connections do
    self.slot = self.slot or core.Future()
    self.slot:await()
  end
end

local function serve_when_free(self, stream)
  local ok, err = pcall(wait_for_slot, self)
  if ok and not self.closed then return serve_connection(self, stream) end
  stream:abort()
  if not ok then error(err, 0) end
end

local function is_exhausted(err)
  return err == "not enough memory" or core.is_error(err, "OSError") and EXHAUSTED[err.code]
end

local function accept_and_serve(self, socket)
  local fd = socket:accept_fd()
  local ok, stream = pcall(core.stream, fd, self.limit)
  if not ok then
    core.close_descriptor(fd)
    error(stream, 0)
  end
  serve_when_free(self, stream)
end

-- Returns whether to go on.
local function accept_one(self, socket)
  local ok, err = core.pcall(accept_and_serve, self, socket)
  if ok then
    self.exhausted = false
  elseif is_exhausted(err) then
    wait_for_descriptors(self, err)
  elseif self.closed then
    return false
  else
    error(err, 0)
  end
  return true
end

local function accept_all(self, socket)
  while not self.closed do
    wait_for_slot(self)
    if self.closed or not accept_one(self, socket) then return end
  end
end

-- ---- making one --------------------------------------------------------------

local function hosts_of(host)
  if host == nil or host == "" then return { "::", "0.0.0.0" }, true end
  if type(host) == "table" then return host end
  return { host }
end

local function has_no_ipv6(err)
  return core.is_error(err, "OSError")
    and (err.code == "EAFNOSUPPORT" or err.code == "EADDRNOTAVAIL")
end

-- Listens on every address. Port 0 is one port for all of them.
local function listen(self, hosts, all, port, opts)
  for _, host in ipairs(hosts) do
    for _, address in ipairs(names.resolve(host, opts.family)) do
      local ok, socket = pcall(core.tcp_listen, address.host, port, opts.backlog, opts.reuse_port)
      local optional = all or host == "localhost" and address.family == "inet6"
      if ok then
        self.listeners[#self.listeners + 1] = socket
        if port == 0 then port = socket:getsockname().port end
      elseif not (optional and has_no_ipv6(socket)) then
        self:close()
        error(socket, 0)
      end
    end
  end
end

local function check_options(opts)
  opts = options.check(4, "start_server", opts, OPTIONS)
  streams.refuse_not_yet(4, "start_server", opts, NOT_YET)
  streams.check_family(4, "start_server", opts.family)
  streams.check_limit(4, "start_server", opts.limit)
  if opts.backlog and (not math.tointeger(opts.backlog) or opts.backlog < 0) then
    options.bad_argument(4, "start_server", "option 'backlog' must be a number of connections")
  end
  local most = opts.max_connections
  if most and (not math.tointeger(most) or most < 1) then
    options.bad_argument(4, "start_server", "option 'max_connections' must be a positive integer")
  end
  return opts
end

local function check_hosts(host)
  if type(host) == "table" then
    for _, one in ipairs(host) do
      if type(one) ~= "string" then
        options.bad_argument(2, "start_server", "a list of strings is expected")
      end
    end
    if #host == 0 then options.bad_argument(2, "start_server", "the list of hosts is empty") end
    return
  end
  options.check_type(2, "start_server", host, "string or nil")
end

--- Listens on TCP and makes `handler(stream, stream)` a task for each connection.
-- Awaits. The stream is closed when its handler ends; a handler's error goes to
-- the exception handler.
-- @param handler function(stream, stream), or anything that can be called
-- @param host string (a name or numeric address), list of these, or nil for all
-- interfaces
-- @param port integer, 0 to 65535; 0 for a free one, see `Server:port`
-- @param[opt] opts table: `backlog` (integer, connections the kernel holds until
-- they are accepted: 4096), `reuse_port` (boolean), `limit` (bytes, see
-- `connect`), `family` ("inet" or "inet6"), `start_serving` (boolean, true),
-- `max_connections` (integer: accepting pauses while there are so many)
-- @return Server
-- @raise AddressInUseError, AddressNotAvailableError, PermissionError or another
-- OSError; DNSError as `connect`; bad argument for an option that does not exist
-- or of another type
-- @see asyncio.start_server
function M.start_server(handler, host, port, opts)
  options.check_callable(1, "start_server", handler)
  check_hosts(host)
  port = streams.check_port(3, "start_server", port, 0)
  opts = check_options(opts)
  core.check() -- resolving names may wait
  local self = setmetatable({
    handler = handler, listeners = {}, acceptors = {}, connections = {}, count = 0,
    limit = opts.limit, max_connections = opts.max_connections, ended = core.Future(),
    closed = false,
  }, server_mt)
  self.on_end = function(task)
    core.take(task)
    core.call_soon(nil, on_handler_end, self, task)
  end
  if type(handler) ~= "function" then
    self.handler = function(...) return handler(...) end
  end
  local hosts, all = hosts_of(host)
  listen(self, hosts, all, port, opts)
  if opts.start_serving ~= false then self:start_serving() end
  return self
end

-- ---- methods -----------------------------------------------------------------

--- Begins to accept, where `start_serving=false` was given.
-- @function Server:start_serving
-- @raise InvalidStateError when it is closed
-- @see asyncio.Server.start_serving
function Server:start_serving()
  check_server(self, "start_serving")
  if self.closed then core.raise("InvalidStateError", "the server is closed") end
  if self.serving then return end
  self.serving = true
  for i, socket in ipairs(self.listeners) do
    local task = core.task_new("accept", nil, false, accept_all, self, socket)
    self.acceptors[i] = core.set_internal(task)
  end
end

--- Tells whether it accepts connections.
-- @function Server:is_serving
-- @see asyncio.Server.is_serving
function Server:is_serving()
  check_server(self, "is_serving")
  return self.serving == true and not self.closed
end

--- Serves until it is closed and every connection has ended, or until the task is
-- cancelled, which closes it. Awaits.
-- @function Server:serve_forever
-- @raise InvalidStateError when it is closed, or served forever already; see
-- Awaiting functions
-- @see asyncio.Server.serve_forever
function Server:serve_forever()
  check_server(self, "serve_forever")
  if self.forever then
    core.raise("InvalidStateError", "the server is being served forever already")
  end
  self:start_serving()
  self.forever = true
  local _ <close> = blocks.on_leaving(function()
    self.forever = nil
    self:close()
  end)
  self.ended:await()
end

--- Stops accepting. Connections go on. Twice is fine.
-- @function Server:close
-- @see asyncio.Server.close
function Server:close()
  check_server(self, "close")
  if self.closed then return end
  self.closed = true
  for _, socket in ipairs(self.listeners) do socket:close() end
  for _, task in ipairs(self.acceptors) do task:cancel() end
  free_slot(self)
  check_ended(self)
end

--- Waits until it is closed and every connection has ended. Awaits.
-- @function Server:wait_closed
-- @raise see Awaiting functions
-- @see asyncio.Server.wait_closed
function Server:wait_closed()
  check_server(self, "wait_closed")
  self.ended:await()
end

--- Closes every connection; what is queued is sent.
-- @function Server:close_clients
-- @see asyncio.Server.close_clients
function Server:close_clients()
  check_server(self, "close_clients")
  for _, stream in pairs(self.connections) do stream:close() end
end

--- Aborts every connection; what is queued is dropped.
-- @function Server:abort_clients
-- @see asyncio.Server.abort_clients
function Server:abort_clients()
  check_server(self, "abort_clients")
  for _, stream in pairs(self.connections) do stream:abort() end
end

--- Lists the addresses it listens on.
-- @function Server:sockets
-- @return list of {host= (string), port= (integer)}, empty when closed
-- @see asyncio.Server.sockets
function Server:sockets()
  check_server(self, "sockets")
  local list = {}
  for i, socket in ipairs(self.closed and {} or self.listeners) do
    list[i] = socket:getsockname()
  end
  return list
end

--- Gives the port it listens on, the first one where there are several.
-- @function Server:port
-- @return integer
-- @raise InvalidStateError when it is closed
function Server:port()
  check_server(self, "port")
  if self.closed then core.raise("InvalidStateError", "the server is closed") end
  return self.listeners[1]:getsockname().port
end

function server_mt:__tostring()
  if self.closed then return "Server: (closed)" end
  return ("Server: port %d (%s, %d connections)"):format(self:port(),
    self.serving and "serving" or "idle", self.count)
end

--- Stops accepting when the block is left, cancels the handlers and waits for
-- them and for what they have written; left by an error or a cancellation (also
-- one that comes meanwhile) it aborts the connections. Outside a task it does
-- not wait. Awaits.
-- @function Server:__close
-- @see asyncio.Server
function server_mt:__close(err)
  self:close()
  for task in pairs(self.connections) do task:cancel() end
  if not core.current_task() then return end
  local ok, cancelled = err == nil, nil
  if ok then ok, cancelled = pcall(self.ended.await, self.ended) end
  if ok then return end
  self:abort_clients()
  core.cancel_scope(nil, true):run(function() self.ended:await() end)
  if cancelled ~= nil then error(cancelled, 0) end
end

return M

-- SPDX-License-Identifier: MIT
-- The Server: a task accepts on each listening socket and hands the connections to
-- whoever made the server. What a connection is, is theirs: `members` maps its key
-- (a task, a transport) to what can be closed and aborted.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local listeners = require "moonloop.listeners"
local options = require "moonloop.options"
local run = require "moonloop.run"

local M = {}

local Server = {}
local server_mt = { __index = Server, __name = "moonloop.Server" }

local open = run.register(function(self) self:close() end) -- servers that are not closed

local RETRY_SECONDS = 0.1 -- when descriptors are out
local GRACE_SECONDS = 5
local CANCEL_SECONDS = 1 -- what handlers get that were cancelled by `shutdown`

local function check_server(self, name)
  if getmetatable(self) ~= server_mt then
    options.bad_argument(1, name, "Server expected, got " .. type(self))
  end
  return self
end

-- ---- connections ---------------------------------------------------------------

local function check_ended(self)
  if not self.closed or next(self.members) then return end
  if not self.ended:done() then self.ended:set_result() end
end

-- Lets paused acceptors go on.
local function free_slot(self)
  local slot = self.slot
  self.slot = nil
  if slot then slot:set_result() end
end

--- Adds a connection.
function M.add(self, key, connection)
  self.members[key] = connection
  self.count = self.count + 1
end

--- Takes a connection out that has ended.
function M.forget(self, key)
  if self.members[key] == nil then return end
  self.members[key] = nil
  self.count = self.count - 1
  free_slot(self)
  check_ended(self)
end

-- ---- accepting -----------------------------------------------------------------

-- Out of descriptors, say: said once, tried again when some may be free.
local function pause(self, err)
  if not self.exhausted then
    self.exhausted = true
    core.call_exception_handler(nil, {
      message = "the server cannot accept connections for now; trying again", error = err,
    })
  end
  core.sleep(RETRY_SECONDS)
end

local function is_full(self)
  return self.max_connections and self.count >= self.max_connections
end

local function wait_for_slot(self)
  while not self.closed and is_full(self) do
    self.slot = self.slot or core.Future()
    self.slot:await()
  end
end

local function serve(self, connection, close)
  local ok, err = pcall(self.serve, self, connection)
  if not ok then close(connection) end
  if err ~= nil then error(err, 0) end
end

-- Accepting pauses at the bound. Another listener's connection may have filled it
-- while this one was accepted: then it is held as a Socket until there is room.
local function accept_and_serve(self, socket)
  local fd = socket:accept_fd()
  if not is_full(self) then return serve(self, fd, core.close_descriptor) end
  local held <close> = core.socket_from_fd(fd)
  wait_for_slot(self)
  if not self.closed then serve(self, held, held.close) end
end

-- Returns whether to go on.
local function accept_one(self, socket)
  local ok, err = core.pcall(accept_and_serve, self, socket)
  if ok then
    self.exhausted = false
  elseif self.closed then
    return false
  else
    core.pcall(pause, self, err) -- where memory is out that fails too
  end
  return true
end

local function accept_all(self, socket)
  while not self.closed do
    wait_for_slot(self)
    if self.closed or not accept_one(self, socket) then return end
  end
end

--- Makes a Server.
-- @param list listening sockets: Listeners
-- @param kind table: `serve(self, descriptor or Socket)` adds a connection, or raises,
-- leaving the descriptor open, or gives an error, having closed it;
-- `cancel(key, connection)` asks one to end
-- @param opts table: `max_connections`, `start_serving`
function M.new(list, kind, opts)
  local self = setmetatable({
    listeners = list, acceptors = {}, members = {}, count = 0, serve = kind.serve,
    cancel = kind.cancel, max_connections = opts.max_connections, ended = core.Future(),
    closed = false, dismissed = setmetatable({}, { __mode = "k" }),
  }, server_mt)
  open:add(self)
  return self
end

-- ---- methods -------------------------------------------------------------------

--- Begins to accept, where `start_serving=false` was given.
-- @function Server:start_serving
-- @raise InvalidStateError when it is closed
-- @see asyncio.Server.start_serving
function Server:start_serving()
  check_server(self, "start_serving")
  if self.closed then core.raise("InvalidStateError", "the server is closed") end
  if self.serving then return end
  self.serving = true
  for i, listener in ipairs(self.listeners) do
    local task = core.task_new("accept", nil, false, accept_all, self, listener.socket)
    core.set_run(task, open:run_of(self)) -- whoever calls this
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
  open:remove(self)
  listeners.close(self.listeners)
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

--- Closes every connection, after what is queued. Handlers go on and find it closed.
-- @function Server:close_clients
-- @see asyncio.Server.close_clients
function Server:close_clients()
  check_server(self, "close_clients")
  for key, connection in pairs(self.members) do
    self.dismissed[key] = true
    connection:close()
  end
end

--- Aborts every connection: what is queued is dropped.
-- @function Server:abort_clients
-- @see asyncio.Server.abort_clients
function Server:abort_clients()
  check_server(self, "abort_clients")
  for key, connection in pairs(self.members) do
    self.dismissed[key] = true
    connection:abort()
  end
end

-- Whether every connection ends within so many seconds.
local function ends_within(self, seconds)
  local scope = core.cancel_scope(core.time() + seconds)
  return (scope:run(function() self.ended:await() end))
end

local function shut_down(self, grace)
  local total = self.count
  if ends_within(self, grace) then return total, 0, 0 end
  local ended = total - self.count
  for key, connection in pairs(self.members) do self.cancel(key, connection) end
  if ends_within(self, CANCEL_SECONDS) then return ended, total - ended, 0 end
  local aborted = self.count
  self:abort_clients()
  return ended, total - ended - aborted, aborted
end

--- Ends in good order: stops accepting, lets the connections end for a while, then
-- cancels their handlers (closes them, where a protocol is at work), and aborts what
-- is left a second later. Awaits. Cancelled, it cancels and aborts at once.
-- @function Server:shutdown
-- @param[opt] opts table: `grace` (seconds, 5)
-- @return integers: connections that ended by themselves, were cancelled, were aborted
-- @raise see Awaiting functions
function Server:shutdown(opts)
  check_server(self, "shutdown")
  opts = options.check(1, "shutdown", opts, { grace = "number" })
  local grace = options.check_duration(1, "shutdown", "grace", opts.grace) or GRACE_SECONDS
  self:close()
  local passed = false
  local _ <close> = blocks.on_leaving(function()
    if passed then return end
    for key, connection in pairs(self.members) do self.cancel(key, connection) end
    self:abort_clients()
  end)
  local ended, cancelled, aborted = shut_down(self, grace)
  passed = true
  return ended, cancelled, aborted
end

--- Lists the addresses it listens on.
-- @function Server:sockets
-- @return list of {host= (string), port= (integer)} or {path=}, empty when closed
-- @see asyncio.Server.sockets
function Server:sockets()
  check_server(self, "sockets")
  local list = {}
  for i, listener in ipairs(self.closed and {} or self.listeners) do
    list[i] = listener.socket:getsockname()
  end
  return list
end

--- Gives the port it listens on, the first one where there are several.
-- @function Server:port
-- @return integer
-- @raise InvalidStateError when it is closed, or listens on no port
function Server:port()
  check_server(self, "port")
  if self.closed then core.raise("InvalidStateError", "the server is closed") end
  local port = self.listeners[1].socket:getsockname().port
  return port or core.raise("InvalidStateError", "a Unix server has no port")
end

function server_mt:__tostring()
  if self.closed then return "Server: (closed)" end
  local ok, address = pcall(self.listeners[1].socket.getsockname, self.listeners[1].socket)
  if not ok then return "Server: (its socket is closed)" end
  local where = address.port and "port " .. address.port or address.path:gsub("^%z", "@")
  return ("Server: %s (%s, %d connections)"):format(where,
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
  local own = core.current_task()
  for key, connection in pairs(self.members) do
    if key ~= own then self.cancel(key, connection) end
  end
  if not own or self.members[own] then return end -- a handler would wait for itself
  local ok, cancelled = err == nil, nil
  if ok then ok, cancelled = pcall(self.ended.await, self.ended) end
  if ok then return end
  self:abort_clients()
  core.cancel_scope(nil, true):run(function() self.ended:await() end)
  if cancelled ~= nil then error(cancelled, 0) end
end

return M

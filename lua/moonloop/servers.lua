-- SPDX-License-Identifier: MIT
-- Servers whose connections are Streams: each gets a task of its own, which runs the
-- handler. A connection lasts until its handler has ended and its data is out.

local core = require "moonloop.core"
local addresses = require "moonloop.addresses"
local blocks = require "moonloop.blocks"
local listeners = require "moonloop.listeners"
local options = require "moonloop.options"
local server = require "moonloop.server"
local streams = require "moonloop.streams"
local tasks = require "moonloop.tasks"
local tls_streams = require "moonloop.tls_streams"

local M = {}

-- Options of all servers, with connections of either kind.
local COMMON = options.with(tls_streams.SERVER_OPTIONS, {
  backlog = "number",
  start_serving = "boolean",
  max_connections = "number",
  sock = "any",
})

local TCP = options.with(COMMON, { reuse_port = "boolean", family = "string" })
local UNIX = options.with(COMMON, { mode = "number or string" })
local LIMIT = { limit = "number" }

local STREAM_TCP, STREAM_UNIX = options.with(TCP, LIMIT), options.with(UNIX, LIMIT)

-- ---- connections ---------------------------------------------------------------

local function report(task, stream, err)
  core.call_exception_handler(nil, {
    message = ("error in the handler of a connection (task '%s')"):format(task:get_name()),
    error = err, task = task, stream = stream,
    traceback = core.traceback_of(task), created_at = core.site_of(task),
  })
end

-- The handler of a connection has ended: a callback, so it must not wait.
local function on_handler_end(self, task)
  local stream = self.members[task]
  if task:cancelled() then
    stream:abort()
  else
    local ok, err = pcall(task.result, task)
    -- That the server has closed it is no fault of the handler's.
    local dismissed = self.dismissed[task] and core.is_error(err, "InvalidStateError")
    if not ok and not dismissed then report(task, stream, err) end
    stream:close()
  end
  if stream:fileno() < 0 then return server.forget(self, task) end
  core.task_new("close", nil, false, function() -- until its data is out
    local _ <close> = blocks.on_leaving(function() server.forget(self, task) end)
    core.pcall(stream.wait_closed, stream)
  end)
end

local kind = {}

function kind.serve(self, connection)
  local stream = core.stream(connection, self.limit)
  local ok, task = pcall(core.task_new, nil, nil, false, self.handler, stream, stream)
  if not ok then
    stream:abort()
    return task
  end
  server.add(self, task, stream)
  core.watch(task, self.on_end)
end

function kind.cancel(task) task:cancel() end

-- ---- making one ----------------------------------------------------------------

-- A handler that is called once the handshake is done: in the connection's own task,
-- so that nobody waits for a client that is slow.
local function behind_tls(handler, settings)
  return function(stream)
    if tls_streams.accept(stream, settings) then handler(stream, stream) end
  end
end

local function start(handler, list, opts, settings)
  local self = server.new(list, kind, opts)
  self.handler = tasks.callable_as_function(handler)
  if settings then self.handler = behind_tls(self.handler, settings) end
  self.limit = opts.limit
  self.on_end = function(task)
    core.take(task)
    core.call_soon(nil, on_handler_end, self, task)
  end
  if opts.start_serving ~= false then self:start_serving() end
  return self
end

--- Makes the listening sockets for the function `name`, whose host is argument 2.
-- Awaits.
-- @return list of Listeners, the options, the settings of TLS or nil
function M.listen(name, host, port, opts, known)
  opts = options.check(4, name, opts, known or TCP)
  streams.check_limit(4, name, opts.limit)
  listeners.check_options(4, name, opts)
  local settings = tls_streams.server_settings(4, name, opts)
  if opts.sock ~= nil then
    if host ~= nil then options.bad_argument(2, name, "nil expected beside the option 'sock'") end
    if port ~= nil then options.bad_argument(3, name, "nil expected beside the option 'sock'") end
    return listeners.given(4, name, opts.sock, opts.backlog), opts, settings
  end
  if host ~= nil then addresses.check_host(2, name, host) end
  port = addresses.check_port(3, name, port, 0)
  core.check() -- resolving names may wait
  return listeners.tcp(host, port, opts), opts, settings
end

--- The same on the path of a Unix socket. Awaits.
function M.listen_unix(name, path, opts, known)
  opts = options.check(3, name, opts, known or UNIX)
  streams.check_limit(3, name, opts.limit)
  listeners.check_options(3, name, opts)
  local mode = listeners.check_mode(3, name, opts.mode)
  local settings = tls_streams.server_settings(3, name, opts)
  if opts.sock ~= nil then
    if path ~= nil then options.bad_argument(2, name, "nil expected beside the option 'sock'") end
    return listeners.given(3, name, opts.sock, opts.backlog), opts, settings
  end
  addresses.check_path(2, name, path)
  core.check()
  return listeners.unix(path, { mode = mode, backlog = opts.backlog }), opts, settings
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
-- `max_connections` (integer: accepting pauses while there are so many), `sock` (a
-- listening Socket or descriptor, or a list of them; host and port are nil then),
-- `tls` (a context of `tls.server_context`: the handler is called when the handshake
-- is done; one that fails is reported), `tls_handshake_timeout` (seconds, 60),
-- `tls_shutdown_timeout` (seconds, 30: how long saying the end may take)
-- @return Server
-- @raise AddressInUseError, AddressNotAvailableError, PermissionError or another
-- OSError; DNSError as `connect`; bad argument for an option that does not exist
-- or of another type
-- @see asyncio.start_server
function M.start_server(handler, host, port, opts)
  options.check_callable(1, "start_server", handler)
  return (start(handler, M.listen("start_server", host, port, opts, STREAM_TCP)))
end

--- Listens on a Unix socket; else as `start_server`. Awaits. A file that stands at
-- the path is taken over when it is a socket on which nobody listens; on closing it
-- is removed if it is still the server's own.
-- @param handler function(stream, stream), or anything that can be called
-- @param path string; behind a "\0" an abstract name
-- @param[opt] opts table: `mode` (the file's permissions: integer, or octal digits
-- such as "660"), `backlog`, `limit`, `start_serving`, `max_connections`, `sock`, `tls`
-- and what goes with it as `start_server`
-- @return Server
-- @raise AddressInUseError, FileNotFoundError, PermissionError or another OSError
-- @see asyncio.start_unix_server
function M.start_unix_server(handler, path, opts)
  options.check_callable(1, "start_unix_server", handler)
  return (start(handler, M.listen_unix("start_unix_server", path, opts, STREAM_UNIX)))
end

return M

-- SPDX-License-Identifier: MIT
-- Connections for protocols: what the loop's methods do to bring a transport and a
-- protocol together. The Transport itself is C.

local core = require "moonloop.core"
local options = require "moonloop.options"
local server = require "moonloop.server"
local servers = require "moonloop.servers"
local socket = require "moonloop.socket"
local sources = require "moonloop.sources"
local streams = require "moonloop.streams"
local tls_streams = require "moonloop.tls_streams"
local transfer = require "moonloop.transfer"

local M = {}

--- Calls a protocol's factory, which must not await.
-- @return the protocol
function M.make(factory)
  local protocol = core.unyieldable("a protocol's factory", factory)
  if type(protocol) ~= "table" then
    core.raise("Error", "the protocol's factory gave no table but "
      .. options.type_name(protocol))
  end
  return protocol
end

local function make_in_task(factory)
  core.check()
  return M.make(factory)
end

-- Has the loop tell the protocol of its connection, and waits for that. Awaits.
local function begin(transport, protocol)
  local made = core.Future()
  core.call_soon(nil, function()
    if transport:is_closing() then return end -- nobody waits any more
    local ok, err = pcall(core.connection_made, transport) -- fails where memory is out
    if made:done() then return end
    if ok then made:set_result() else made:set_error(err) end
  end)
  local ok, err = pcall(made.await, made)
  if ok then return transport, protocol end
  transport:abort()
  error(err, 0)
end

-- The same for a connected Socket, which is closed when that fails. Awaits.
local function begin_with(connected, factory, settings)
  local ok, protocol = pcall(make_in_task, factory)
  if not ok then
    connected:close()
    error(protocol, 0)
  end
  local transport = core.transport(connected, protocol)
  if settings then tls_streams.start_new(transport, settings) end
  return begin(transport, protocol)
end

-- What connecting is to make of a Socket.
local function maker(factory)
  return function(connected, _, settings) return begin_with(connected, factory, settings) end
end

-- ---- connections ---------------------------------------------------------------

--- Connects by TCP and has a protocol called for the connection. Awaits until its
-- `connection_made` was called.
-- @function Loop:create_connection
-- @param factory function that gives a protocol, or a class of `Protocol:extend`
-- @param host string (a name or numeric address), or a list of these
-- @param port integer, 1 to 65535
-- @param[opt] opts table, as of `moonloop.connect` without `limit`
-- @return Transport, protocol
-- @raise as `moonloop.connect`; what the factory raises; see Awaiting functions
-- @see asyncio.loop.create_connection
function M.create_connection(_, factory, host, port, opts)
  options.check_callable(1, "create_connection", factory)
  local transport, protocol = streams.connect_tcp(2, "create_connection", host, port, opts, nil,
    maker(factory))
  return transport, protocol
end

--- Connects to a Unix socket and has a protocol called. Awaits.
-- @function Loop:create_unix_connection
-- @param factory as of `create_connection`
-- @param path string; behind a "\0" an abstract name
-- @param[opt] opts table, as of `moonloop.connect_unix` without `limit`
-- @return Transport, protocol
-- @raise as `moonloop.connect_unix`; what the factory raises; see Awaiting functions
-- @see asyncio.loop.create_unix_connection
function M.create_unix_connection(_, factory, path, opts)
  options.check_callable(1, "create_unix_connection", factory)
  local transport, protocol = streams.connect_path(2, "create_unix_connection", path, opts, nil,
    maker(factory))
  return transport, protocol
end

--- Has a protocol called for a connection that was accepted elsewhere. Awaits.
-- @function Loop:connect_accepted_socket
-- @param factory as of `create_connection`
-- @param sock a connected Socket, which is emptied, or its descriptor
-- @param[opt] opts table: `tls` (a context of `tls.server_context`) and what goes with
-- it as `create_server`
-- @return Transport, protocol
-- @raise what the factory raises; InvalidStateError when it is closed; TLSError,
-- CertificateError, TimeoutError of the handshake; see Awaiting functions
-- @see asyncio.loop.connect_accepted_socket
function M.connect_accepted_socket(_, factory, sock, opts)
  local name = "connect_accepted_socket"
  options.check_callable(1, name, factory)
  opts = options.check(3, name, opts, tls_streams.SERVER_OPTIONS)
  local settings = tls_streams.server_settings(3, name, opts)
  return begin_with(socket.check_connected(2, name, sock), factory, settings)
end

local function connect_pipe(name, factory, source, direction)
  options.check_callable(1, name, factory)
  sources.check(2, name, source)
  local ok, protocol = pcall(make_in_task, factory)
  if ok then return begin(core.pipe_transport(source, protocol, direction), protocol) end
  if math.type(source) and core.is_open_descriptor(source) then core.close_descriptor(source) end
  error(protocol, 0)
end

--- Has a protocol called for what a pipe brings. Awaits.
-- @function Loop:connect_read_pipe
-- @param factory as of `create_connection`
-- @param source integer (a descriptor, owned from then on), or a Lua file
-- @return Transport, protocol
-- @raise OSError, code EBADF; what the factory raises; see Awaiting functions
-- @see asyncio.loop.connect_read_pipe
function M.connect_read_pipe(_, factory, source)
  return connect_pipe("connect_read_pipe", factory, source, "read")
end

--- Makes a transport that writes to a pipe. Awaits. When the reader goes,
-- `connection_lost` is called with a BrokenPipeError.
-- @function Loop:connect_write_pipe
-- @param factory as of `create_connection`
-- @param source integer (a descriptor, owned from then on), or a Lua file
-- @return Transport, protocol
-- @raise OSError, code EBADF; what the factory raises; see Awaiting functions
-- @see asyncio.loop.connect_write_pipe
function M.connect_write_pipe(_, factory, source)
  return connect_pipe("connect_write_pipe", factory, source, "write")
end

--- Sends a file through a transport as `Stream:sendfile` does. Awaits. What is
-- written meanwhile is queued behind it.
-- @function Loop:sendfile
-- @param transport Transport
-- @param file string (a path), Lua file, or integer (a descriptor)
-- @param[opt=0] offset integer, bytes
-- @param[opt] count integer, bytes
-- @return integer, bytes sent
-- @raise as `Stream:sendfile`; InvalidStateError when the transport is closed
-- @see asyncio.loop.sendfile
function M.sendfile(_, transport, file, offset, count)
  if not options.has_methods(transport, core.transport_methods) then
    options.bad_argument(1, "sendfile", "Transport expected, got " .. options.type_name(transport))
  end
  return (transfer.send(2, "sendfile", transport, file, offset, count))
end

-- ---- servers -------------------------------------------------------------------

local kind = {}

local function report(err)
  core.call_exception_handler(nil, {
    message = "a connection could not be given a protocol", error = err,
  })
end

local function accept(transport, settings)
  if tls_streams.accept(transport, settings) then
    core.call_soon(nil, core.connection_made, transport)
  end
end

function kind.serve(self, connection)
  local ok, protocol = pcall(M.make, self.factory)
  if not ok then
    report(protocol)
    if math.type(connection) then core.close_descriptor(connection) else connection:close() end
    return
  end
  local transport = core.transport(connection, protocol)
  local added, err = pcall(function()
    server.add(self, transport, transport)
    core.set_owner(transport, self.on_lost)
    if not self.settings then
      core.call_soon(nil, core.connection_made, transport)
      return
    end
    core.set_internal(core.task_new("tls handshake", nil, false, accept, transport, self.settings))
  end)
  if added then return end
  transport:abort()
  return err
end

function kind.cancel(transport) transport:close() end

local function start(factory, list, opts, settings)
  local self = server.new(list, kind, opts)
  self.factory, self.settings = factory, settings
  self.on_lost = function(transport) server.forget(self, transport) end
  if opts.start_serving ~= false then self:start_serving() end
  return self
end

--- Listens on TCP and has a protocol called for each connection. Awaits.
-- @function Loop:create_server
-- @param factory as of `create_connection`; one that raises is reported, and the
-- connection closed
-- @param host string, list of strings, or nil for all interfaces
-- @param port integer, 0 to 65535; 0 for a free one, see `Server:port`
-- @param[opt] opts table, as of `moonloop.start_server` without `limit`
-- @return Server
-- @raise as `moonloop.start_server`
-- @see asyncio.loop.create_server
function M.create_server(_, factory, host, port, opts)
  options.check_callable(1, "create_server", factory)
  return (start(factory, servers.listen("create_server", host, port, opts)))
end

--- Listens on a Unix socket and has a protocol called for each connection. Awaits.
-- @function Loop:create_unix_server
-- @param factory as of `create_server`
-- @param path string; behind a "\0" an abstract name
-- @param[opt] opts table, as of `moonloop.start_unix_server` without `limit`
-- @return Server
-- @raise as `moonloop.start_unix_server`
-- @see asyncio.loop.create_unix_server
function M.create_unix_server(_, factory, path, opts)
  options.check_callable(1, "create_unix_server", factory)
  return (start(factory, servers.listen_unix("create_unix_server", path, opts)))
end

return M

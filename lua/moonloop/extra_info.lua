-- SPDX-License-Identifier: MIT
-- What `get_extra_info` of streams and transports knows: addresses, the peer of a
-- Unix socket, the socket itself as far as it can be shown without giving it away.

local core = require "moonloop.core"
local options = require "moonloop.options"
local socket_options = require "moonloop.socket_options"

local M = {}

local SOCKETS = { tcp = true, unix = true, tls = true }

local TransportSocket = {}
local transport_socket_mt = { __index = TransportSocket, __name = "moonloop.TransportSocket" }

-- The descriptor, of a stream that is still open.
local function descriptor(self)
  local fd = self.owner:fileno()
  if fd < 0 then core.raise("InvalidStateError", "the socket is closed") end
  return fd
end

--- Gives its own address.
-- @function TransportSocket:getsockname
-- @return {host=, port=} or {path=}
-- @raise InvalidStateError when it is closed
function TransportSocket:getsockname()
  descriptor(self)
  return self.sockname(self.owner)
end

--- Gives the peer's address.
-- @function TransportSocket:getpeername
-- @return {host=, port=} or {path=}
-- @raise InvalidStateError when it is closed
function TransportSocket:getpeername()
  descriptor(self)
  return self.peername(self.owner)
end

--- Sets an option as `Socket:setsockopt` does.
-- @function TransportSocket:setsockopt
function TransportSocket:setsockopt(name, value)
  socket_options.set("setsockopt", descriptor(self), name, value)
end

--- Asks for an option as `Socket:getsockopt` does.
-- @function TransportSocket:getsockopt
function TransportSocket:getsockopt(name)
  return socket_options.get("getsockopt", descriptor(self), name)
end

--- Gives the descriptor, which stays the stream's.
-- @function TransportSocket:fileno
-- @return integer, -1 when closed
function TransportSocket:fileno() return self.owner:fileno() end

function transport_socket_mt:__tostring()
  return ("TransportSocket: (descriptor %d)"):format(self:fileno())
end

--- Makes a view of the socket below `owner`, which has a method `fileno`.
function M.transport_socket(owner, sockname, peername)
  return setmetatable({ owner = owner, sockname = sockname, peername = peername },
    transport_socket_mt)
end

local getters = {
  peername = core.stream_peername,
  sockname = core.stream_sockname,
}

function getters.peercred(stream)
  if core.stream_bottom(stream) ~= "unix" or stream:fileno() < 0 then return nil end
  return core.get_socket_option(stream:fileno(), "SO_PEERCRED")
end

function getters.socket(stream)
  if not SOCKETS[core.stream_kind(stream)] then return nil end
  return M.transport_socket(stream, core.stream_sockname, core.stream_peername)
end

function getters.pipe(stream)
  if SOCKETS[core.stream_kind(stream)] or stream:fileno() < 0 then return nil end
  return stream:fileno()
end

-- Where Moonloop was built without TLS there are none.
getters.tls = core.tls_info
getters.peercert = core.tls_peercert
getters.cipher = core.tls_cipher

function M.get(stream, name, default)
  options.check_type(1, "get_extra_info", name, "string")
  local getter = getters[name]
  local value = getter and getter(stream)
  if value == nil then return default end
  return value
end

return M

-- SPDX-License-Identifier: MIT
-- `moonloop.socket`: sockets as the system has them. What waits is C; here names
-- are resolved and what programs give is checked.

local core = require "moonloop.core"
local addresses = require "moonloop.addresses"
local options = require "moonloop.options"
local socket_options = require "moonloop.socket_options"

local M = {}

local Socket = core.socket_methods

-- What only this file calls.
local function take(name)
  local method = Socket[name]
  Socket[name] = nil
  return method
end

local bind_address = take "bind_address"
local connect_address = take "connect_address"
local sendto_address = take "sendto_address"
local family_of = take "family"
local set_mode = take "set_mode"

local function check_socket(name, self)
  if not options.has_methods(self, Socket) then options.bad_self(name, "Socket", self) end
end

local function descriptor(name, self)
  check_socket(name, self)
  local fd = self:fileno()
  if fd < 0 then core.raise("InvalidStateError", "the socket is closed") end
  return fd
end

--- Gives family, type ("stream" or "dgram"), and whether it listens.
M.family_of = family_of

--- Sets the permissions that the file of a Unix socket will have once it is bound.
M.set_mode = set_mode

local function connect_or_close(socket, address)
  local ok, err = pcall(connect_address, socket, address)
  if ok then return end
  if core.is_error(err, "CancelledError") then socket:close() end
  error(err, 0)
end

--- Connects; a datagram socket only notes where to send. Awaits. Cancelled while it
-- connects (not yet while a name is looked up), the socket is closed.
-- @function Socket:connect
-- @param address {host=, port=} or {path=}
-- @raise ConnectionRefusedError, TimeoutError (the peer is out of reach),
-- FileNotFoundError or another OSError; DNSError; InvalidStateError when closed,
-- also while it waits, or another task sends or connects; see Awaiting functions
-- @see asyncio.loop.sock_connect
function Socket:connect(address)
  check_socket("connect", self)
  connect_or_close(self, addresses.numeric(1, "connect", address, (family_of(self))))
end

--- Binds to an address of this machine. Awaits where the host is a name.
-- @function Socket:bind
-- @param address {host=, port=} (without a host: every address, without a port or
-- with 0: a free one) or {path=}
-- @raise AddressInUseError, AddressNotAvailableError, PermissionError or another
-- OSError; InvalidStateError when closed
-- @see socket.socket.bind
function Socket:bind(address)
  check_socket("bind", self)
  bind_address(self, addresses.numeric(1, "bind", address, (family_of(self)), true))
end

--- Sends a datagram. Awaits until there is room.
-- @function Socket:sendto
-- @param data string
-- @param address {host=, port=} or {path=}
-- @return integer, bytes sent
-- @raise as `send`
-- @see asyncio.loop.sock_sendto
function Socket:sendto(data, address)
  check_socket("sendto", self)
  options.check_type(1, "sendto", data, "string or number")
  address = addresses.numeric(2, "sendto", address, (family_of(self)))
  return sendto_address(self, data, address)
end

--- Sets an option of the system's.
-- @function Socket:setsockopt
-- @param name string: "SO_REUSEADDR", "TCP_NODELAY", "IP_MULTICAST_TTL", ...
-- @param value boolean, integer or string, as the option wants; of SO_LINGER
-- seconds or false; of a membership {group=, interface=}
-- @raise OSError; InvalidStateError when closed; bad argument for an option
-- that does not exist or a value of another type
-- @see socket.socket.setsockopt
function Socket:setsockopt(name, value)
  socket_options.set("setsockopt", descriptor("setsockopt", self), name, value)
end

--- Asks for an option.
-- @function Socket:getsockopt
-- @param name string, as for `setsockopt`
-- @return boolean, integer or string; of SO_PEERCRED {pid=, uid=, gid=}
-- @raise OSError; InvalidStateError when closed; bad argument for an option
-- that does not exist
-- @see socket.socket.getsockopt
function Socket:getsockopt(name)
  return socket_options.get("getsockopt", descriptor("getsockopt", self), name)
end

local function check_one_of(name, value, choices, default)
  if value == nil then return default end
  if choices[value] then return value end
  local words = {}
  for word in pairs(choices) do words[#words + 1] = "'" .. word .. "'" end
  table.sort(words)
  options.bad_argument(1, name, ("%s expected, got %s"):format(table.concat(words, " or "),
    type(value) == "string" and "'" .. value .. "'" or options.type_name(value)))
end

local FAMILIES = { inet = true, inet6 = true }
local TYPES = { stream = true, dgram = true }

--- Makes a TCP socket.
-- @function socket.tcp
-- @param[opt="inet"] family "inet" or "inet6"
-- @return Socket
-- @raise OSError, code EMFILE when descriptors are out
-- @see socket.socket
function M.tcp(family)
  return core.socket(check_one_of("tcp", family, FAMILIES, "inet"), "stream")
end

--- Makes a UDP socket.
-- @function socket.udp
-- @param[opt="inet"] family "inet" or "inet6"
-- @return Socket
-- @raise OSError, code EMFILE when descriptors are out
-- @see socket.socket
function M.udp(family)
  return core.socket(check_one_of("udp", family, FAMILIES, "inet"), "dgram")
end

--- Makes a Unix socket.
-- @function socket.unix
-- @param[opt="stream"] type "stream" or "dgram"
-- @return Socket
-- @raise OSError, code EMFILE when descriptors are out
-- @see socket.socket
function M.unix(type)
  return core.socket("unix", check_one_of("unix", type, TYPES, "stream"))
end

--- Makes two Unix sockets that are connected to each other.
-- @function socket.socketpair
-- @param[opt="stream"] type "stream" or "dgram"
-- @return Socket, Socket
-- @raise OSError, code EMFILE when descriptors are out
-- @see socket.socketpair
function M.socketpair(type)
  return core.socketpair(check_one_of("socketpair", type, TYPES, "stream"))
end

M.from_fd = core.socket_from_fd

-- ---- connecting, for streams and protocols -------------------------------------

--- Calls `fn(socket, ...)` and closes the socket when that fails.
-- @return the socket
function M.prepared(socket, fn, ...)
  local ok, err = pcall(fn, socket, ...)
  if ok then return socket end
  socket:close()
  error(err, 0)
end

local function bind_and_connect(socket, from, to)
  if from then
    socket:setsockopt("SO_REUSEADDR", true)
    bind_address(socket, from)
  end
  connect_address(socket, to)
end

--- Makes a Socket and connects it to an address with a numeric host. Awaits.
-- @param from the local address, or nil
function M.connected(address, from)
  local made = core.socket(addresses.family_of(address), "stream")
  return M.prepared(made, bind_and_connect, from, address)
end

--- Makes a connected Socket of what the program gave: a Socket or a descriptor.
function M.check_connected(position, name, sock)
  local given = M.check_given(position, name, sock)
  local ok, err = pcall(function()
    core.check()
    if select(2, family_of(given)) ~= "stream" then
      options.bad_argument(position, name, "a stream socket is expected")
    end
    given:getpeername()
  end)
  if ok then return given end
  if given ~= sock then given:close() end
  error(err, 0)
end

--- Makes a Socket of what the program gave: a Socket or a descriptor.
function M.check_given(position, name, sock)
  if math.type(sock) == "integer" then return core.socket_from_fd(sock) end
  if options.has_methods(sock, Socket) then return sock end
  options.bad_argument(position, name, "Socket or descriptor expected, got "
    .. options.type_name(sock))
end

return M

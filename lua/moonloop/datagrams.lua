-- SPDX-License-Identifier: MIT
-- Datagrams for tasks: a socket bound or connected as the options say, with sending
-- that waits for room and receiving that tells who sent.

local core = require "moonloop.core"
local addresses = require "moonloop.addresses"
local names = require "moonloop.names"
local options = require "moonloop.options"
local socket = require "moonloop.socket"

local M = {}

M.OPTIONS = {
  local_addr = "table",
  remote_addr = "table",
  family = "string",
  reuse_port = "boolean",
  allow_broadcast = "boolean",
}

local Datagram = {}
local datagram_mt = { __index = Datagram, __name = "moonloop.Datagram" }

-- ---- making the socket ---------------------------------------------------------

local function configure(self, opts, from, to)
  if opts.reuse_port then self:setsockopt("SO_REUSEPORT", true) end
  if opts.allow_broadcast then self:setsockopt("SO_BROADCAST", true) end
  if from then self:bind(from) end
  if to then self:connect(to) end
end

local function family_of(position, name, opts, from, to)
  local family = opts.family or addresses.family_of(to or from or {})
  for _, address in pairs { from = from, to = to } do
    if addresses.family_of(address) ~= family and (address.host or address.path) then
      options.bad_argument(position, name, "the addresses are not of one family")
    end
  end
  return family
end

local function has_host(address) return type(address) == "table" and address.host ~= nil end

-- Of two hosts the first addresses that are of one family, in the order of the remote
-- one's. Awaits where one is a name.
local function paired(position, name, from, to, family)
  addresses.check(position, name, from)
  addresses.check(position, name, to)
  local own, theirs = names.resolve(from.host, family), names.resolve(to.host, family)
  for _, remote in ipairs(theirs) do
    for _, local_one in ipairs(own) do
      if local_one.family == remote.family then
        return { host = local_one.host, port = from.port }, { host = remote.host, port = to.port }
      end
    end
  end
  options.bad_argument(position, name, "the addresses are not of one family")
end

--- Makes a datagram Socket for the function `name`, whose options are argument
-- `position`. Awaits where a host is a name.
-- @return Socket
function M.open_socket(position, name, opts)
  addresses.check_family(position, name, opts.family)
  local from, to = opts.local_addr, opts.remote_addr
  if has_host(from) and has_host(to) then
    from, to = paired(position, name, from, to, opts.family)
  end
  from = from and addresses.numeric(position, name, from, opts.family, true)
  to = to and addresses.numeric(position, name, to,
    opts.family or from and (from.host or from.path) and addresses.family_of(from) or nil)
  local family = family_of(position, name, opts, from, to)
  local made = family == "unix" and socket.unix("dgram") or socket.udp(family)
  return socket.prepared(made, configure, opts, from, to)
end

-- ---- groups --------------------------------------------------------------------

--- Joins or leaves a multicast group, on a Socket.
function M.change_group(name, sock, what, group, interface)
  options.check_type(1, name, group, "string")
  options.check_type(2, name, interface, "string or number or nil")
  local family = core.numeric_family(group)
  if not family then options.bad_argument(1, name, "the group must be a numeric address") end
  local option = family == "inet" and "IP_" .. (what == "join" and "ADD" or "DROP") .. "_MEMBERSHIP"
    or "IPV6_" .. (what == "join" and "JOIN" or "LEAVE") .. "_GROUP"
  local ok, err = pcall(sock.setsockopt, sock, option, { group = group, interface = interface })
  if ok then return end
  if core.is_error(err, "OSError") and err.code == "ENODEV" and err.message:find("^interface") then
    options.bad_argument(2, name, ("there is no interface '%s'"):format(tostring(interface)))
  end
  error(err, 0)
end

-- ---- the Datagram --------------------------------------------------------------

--- Opens a datagram socket. Awaits where a host is a name.
-- @param[opt] opts table: `local_addr` ({host=, port=}, or {path=} for a Unix socket;
-- a free port of every address when it is nil), `remote_addr` (where to send, and the
-- only one to receive from), `family` ("inet" or "inet6"), `reuse_port` (boolean),
-- `allow_broadcast` (boolean)
-- @return Datagram
-- @raise AddressInUseError, PermissionError or another OSError; DNSError
-- @see asyncio.loop.create_datagram_endpoint
function M.open_datagram(opts)
  opts = options.check(1, "open_datagram", opts, M.OPTIONS)
  core.check()
  local made = M.open_socket(1, "open_datagram", opts)
  if not opts.local_addr and not opts.remote_addr then made:bind {} end
  return setmetatable({ socket = made, connected = opts.remote_addr ~= nil }, datagram_mt)
end

--- Sends a datagram. Awaits while the system has no room.
-- @function Datagram:send
-- @param data string
-- @param[opt] addr {host=, port=} or {path=}; nil for the remote address
-- @return integer, bytes sent
-- @raise ConnectionRefusedError (one sent before found nobody: only with a remote
-- address) or another OSError, code EMSGSIZE for one that is too long;
-- InvalidStateError when closed, or without any address; see Awaiting functions
function Datagram:send(data, addr)
  options.check_type(1, "send", data, "string or number")
  options.check_type(2, "send", addr, "table or nil")
  if addr ~= nil then return self.socket:sendto(data, addr) end
  if not self.connected then
    core.raise("InvalidStateError", "no address to send to: there is no remote address")
  end
  return self.socket:send(data)
end

--- Receives a datagram. Awaits until one comes.
-- @function Datagram:recv
-- @param[opt=65536] n integer, bytes at most
-- @return string, the sender's address, and where the datagram was cut its whole size
-- in bytes
-- @raise ConnectionRefusedError (what was sent found nobody: only with a remote
-- address) or another OSError; InvalidStateError when closed, also while it waits, or
-- while another task receives; see Awaiting functions
function Datagram:recv(n)
  if n ~= nil and (not math.tointeger(n) or n < 1) then
    options.bad_argument(1, "recv", "a positive number of bytes is expected")
  end
  return self.socket:recvfrom(n)
end

--- Gives its own address.
-- @function Datagram:getsockname
-- @return {host=, port=} or {path=}
-- @raise InvalidStateError when closed
function Datagram:getsockname() return self.socket:getsockname() end

--- Gives the remote address.
-- @function Datagram:getpeername
-- @return {host=, port=} or {path=}
-- @raise OSError, code ENOTCONN, when there is none; InvalidStateError when closed
function Datagram:getpeername() return self.socket:getpeername() end

--- Joins a multicast group: its datagrams are received too.
-- @function Datagram:join
-- @param group string, a numeric address
-- @param[opt] interface string (a name, for IPv4 also an address) or integer
-- @raise OSError; InvalidStateError when closed
function Datagram:join(group, interface)
  M.change_group("join", self.socket, "join", group, interface)
end

--- Leaves a multicast group.
-- @function Datagram:leave
-- @param group string, a numeric address
-- @param[opt] interface as of `join`
-- @raise OSError; InvalidStateError when closed
function Datagram:leave(group, interface)
  M.change_group("leave", self.socket, "leave", group, interface)
end

--- Sets an option as `Socket:setsockopt` does.
-- @function Datagram:setsockopt
function Datagram:setsockopt(name, value) self.socket:setsockopt(name, value) end

--- Asks for an option as `Socket:getsockopt` does.
-- @function Datagram:getsockopt
function Datagram:getsockopt(name) return self.socket:getsockopt(name) end

--- Gives the descriptor, which stays the Datagram's.
-- @function Datagram:fileno
-- @return integer, -1 when closed
function Datagram:fileno() return self.socket:fileno() end

--- Closes. A task that waits on it gets an InvalidStateError. Twice is fine.
-- @function Datagram:close
function Datagram:close() self.socket:close() end

datagram_mt.__close = Datagram.close

function datagram_mt:__tostring()
  return (tostring(self.socket):gsub("^Socket", "Datagram"))
end

return M

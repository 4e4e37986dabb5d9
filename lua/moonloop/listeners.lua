-- SPDX-License-Identifier: MIT
-- Listening sockets: on hosts and ports, on the path of a Unix socket, or given by
-- the program. A Listener is a Socket and what is to be done when it is closed.

local core = require "moonloop.core"
local addresses = require "moonloop.addresses"
local names = require "moonloop.names"
local options = require "moonloop.options"
local sockets = require "moonloop.socket"

local M = {}

local TRIES = 20 -- for a port that is free on several addresses
local EVERYWHERE = { "::", "0.0.0.0" }

local Listener = {}
local listener_mt = { __index = Listener }

--- Stops listening. The file of a Unix socket goes if it is still its own.
function Listener:close()
  -- First the file: as long as the socket is open no other has its inode.
  if self.path and core.socket_file(self.path) == self.file then os.remove(self.path) end
  self.socket:close()
  self.path = nil
end

local function new(socket, path)
  local self = setmetatable({ socket = socket, path = path }, listener_mt)
  if path then self.file = core.socket_file(path) end
  return self
end

--- Closes every Listener of a list.
function M.close(list)
  for _, listener in ipairs(list) do listener:close() end
end

-- ---- TCP -----------------------------------------------------------------------

local function listen_tcp(address, port, opts)
  return sockets.prepared(sockets.tcp(address.family), function(socket)
    socket:setsockopt("SO_REUSEADDR", true)
    if opts.reuse_port then socket:setsockopt("SO_REUSEPORT", true) end
    if address.family == "inet6" then socket:setsockopt("IPV6_V6ONLY", true) end
    local ok, err = pcall(socket.bind, socket, { host = address.host, port = port })
    if ok then ok, err = pcall(socket.listen, socket, opts.backlog) end
    if ok then return end
    if core.is_error(err) then err.message = err.message:gsub("^bind ", "listen ") end
    error(err, 0)
  end)
end

local function has_no_ipv6(err)
  return core.is_error(err, "OSError")
    and (err.code == "EAFNOSUPPORT" or err.code == "EADDRNOTAVAIL")
end

-- The different addresses of some hosts, each with whether it may be missing here.
local function resolve_all(hosts, everywhere, family)
  local list, seen = {}, {}
  for _, host in ipairs(hosts) do
    for _, address in ipairs(names.resolve(host, family)) do
      if not seen[address.host] then
        seen[address.host] = true
        list[#list + 1] = { host = address.host, family = address.family,
          optional = everywhere or host == "localhost" and address.family == "inet6" }
      end
    end
  end
  return list
end

-- Fills the list. A free port that was found for the first address is that of all.
local function listen_on_all(list, resolved, port, opts)
  for _, address in ipairs(resolved) do
    local ok, socket = pcall(listen_tcp, address, port, opts)
    if ok then
      list[#list + 1] = new(socket)
      if port == 0 then port = socket:getsockname().port end
    elseif not (address.optional and has_no_ipv6(socket)) then
      error(socket, 0)
    end
  end
end

--- Listens on every address of some hosts; nil is all interfaces. Port 0 is one port
-- for all of them. Awaits.
-- @return list of Listeners
function M.tcp(host, port, opts)
  local everywhere = host == nil or host == ""
  local hosts = everywhere and EVERYWHERE or type(host) == "table" and host or { host }
  if everywhere and opts.family then
    hosts = { opts.family == "inet" and "0.0.0.0" or "::" }
  end
  local resolved = resolve_all(hosts, everywhere, opts.family)
  for try = 1, TRIES do
    local list = {}
    local ok, err = pcall(listen_on_all, list, resolved, port, opts)
    if ok then return list end
    M.close(list)
    -- What is free on one address may be in use on the next.
    local again = port == 0 and #list > 0 and core.is_error(err, "AddressInUseError")
    if not again or try == TRIES then error(err, 0) end
  end
end

-- ---- Unix ----------------------------------------------------------------------

local function check_mode(position, name, mode)
  local number = mode
  if type(mode) == "string" then
    number = mode:find("^[0-7]+$") and tonumber(mode, 8) or nil
  end
  number = math.tointeger(number)
  if not number or number < 0 or number > 4095 then
    options.bad_argument(position, name,
      "option 'mode': permission bits expected, an integer or octal digits such as \"660\"")
  end
  return number
end

--- Gives the permission bits of the option `mode`, or nil.
function M.check_mode(position, name, mode)
  return mode ~= nil and check_mode(position, name, mode) or nil
end

-- Whether a socket stands there that nobody listens on. Awaits.
local function is_stale(path)
  local file = core.socket_file(path)
  if not file then return false end
  local probe <close> = sockets.unix()
  local scope = core.cancel_scope(core.time() + 1)
  local ok, err = true, nil
  scope:run(function() ok, err = core.pcall(probe.connect, probe, { path = path }) end)
  return not ok and core.is_error(err, "ConnectionRefusedError")
    and core.socket_file(path) == file
end

local function bind(socket, path)
  local ok, err = pcall(socket.bind, socket, { path = path })
  if not ok and core.is_error(err, "AddressInUseError") and path:byte() ~= 0
    and is_stale(path) then
    os.remove(path)
    ok, err = pcall(socket.bind, socket, { path = path })
  end
  if ok then return end
  if core.is_error(err) then err.message = err.message:gsub("^bind ", "listen ") end
  error(err, 0)
end

--- Listens on the path of a Unix socket, or an abstract name behind "\0". Awaits.
-- @return list with a Listener
function M.unix(path, opts)
  local is_file = path:byte() ~= 0
  local socket = sockets.prepared(sockets.unix(), function(socket)
    if opts.mode and is_file then sockets.set_mode(socket, opts.mode) end -- for the beginning
    bind(socket, path)
  end)
  local listener = new(socket, is_file and path or nil)
  local ok, err = pcall(function()
    if opts.mode and is_file then core.chmod(path, opts.mode) end -- whatever the umask says
    socket:listen(opts.backlog)
  end)
  if ok then return { listener } end
  listener:close()
  error(err, 0)
end

-- ---- given ---------------------------------------------------------------------

-- What the option `sock` may hold, as a list.
local function given(sock)
  local mt = getmetatable(sock)
  local is_list = type(sock) == "table" and mt == nil
  return is_list and sock or { sock }
end

-- A descriptor is owned as soon as it is given.
local function close_descriptor(one)
  if math.type(one) and core.is_open_descriptor(one) then core.close_descriptor(one) end
end

--- Listens on what the program gives: a Socket, a descriptor, or a list of them.
-- @return list of Listeners
function M.given(position, name, sock, backlog)
  local list, socks = {}, given(sock)
  local ok, err = pcall(core.check)
  if not ok then
    for _, one in ipairs(socks) do close_descriptor(one) end
    error(err, 0)
  end
  for _, one in ipairs(socks) do
    local socket = sockets.check_given(position, name, one)
    local _, kind, listening = sockets.family_of(socket)
    if kind ~= "stream" then
      options.bad_argument(position, name, "option 'sock': a stream socket is expected")
    end
    if not listening or backlog then socket:listen(backlog) end
    if socket == one then socket = core.socket_from_fd(socket:detach()) end -- it is ours now
    list[#list + 1] = new(socket)
  end
  if #list == 0 then options.bad_argument(position, name, "option 'sock': the list is empty") end
  return list
end

--- Raises unless the options that all servers have are right.
function M.check_options(position, name, opts)
  addresses.check_family(position, name, opts.family)
  if opts.backlog and (not math.tointeger(opts.backlog) or opts.backlog < 0) then
    options.bad_argument(position, name, "option 'backlog' must be a number of connections")
  end
  local most = opts.max_connections
  if most and (not math.tointeger(most) or most < 1) then
    options.bad_argument(position, name,
      "option 'max_connections' must be a positive integer")
  end
end

return M

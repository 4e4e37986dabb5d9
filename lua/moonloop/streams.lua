-- SPDX-License-Identifier: MIT
-- Streams as far as they are policy: connecting (names, several addresses, a
-- time limit) and iterating. The Stream itself is C.

local core = require "moonloop.core"
local names = require "moonloop.names"
local options = require "moonloop.options"

local M = {}

local OPTIONS = {
  limit = "number",
  timeout = "number",
  family = "string",
  local_addr = "table",
  happy_eyeballs_delay = "number",
  sock = "any",
  tls = "any",
  server_hostname = "string",
}

-- What the contract has and a later version brings.
local NOT_YET = { "tls", "server_hostname", "sock" }

local FAMILIES = { inet = true, inet6 = true }

--- Raises unless `port` is one.
function M.check_port(position, name, port, lowest)
  local number = math.tointeger(port)
  if not number then
    options.bad_argument(position, name, "port: integer expected, got "
      .. (math.type(port) or type(port)))
  end
  if number < lowest or number > 65535 then
    options.bad_argument(position, name, ("port %d is out of range"):format(number))
  end
  return number
end

function M.check_family(position, name, family)
  if family ~= nil and not FAMILIES[family] then
    options.bad_argument(position, name,
      ("option 'family': 'inet' or 'inet6' expected, got '%s'"):format(family))
  end
end

function M.refuse_not_yet(position, name, opts, list)
  for _, option in ipairs(list) do
    if opts[option] ~= nil and opts[option] ~= false then
      options.bad_argument(position, name, ("option '%s' is not there yet"):format(option))
    end
  end
end

function M.check_limit(position, name, limit)
  if limit == nil then return end
  if not math.tointeger(limit) or limit < 1 or limit > 0x7fffffff then
    options.bad_argument(position, name, "option 'limit' must be a positive number of bytes")
  end
end

local WILDCARD = { inet = "0.0.0.0", inet6 = "::" }

local function check_local_addr(position, name, addr)
  if addr == nil then return end
  options.check(position, name, addr, { host = "string", port = "number" })
  if addr.port ~= nil then M.check_port(position, name, addr.port, 0) end
  if addr.host ~= nil and not core.numeric_family(addr.host) then
    options.bad_argument(position, name,
      ("option 'local_addr': host '%s' is no numeric address"):format(addr.host))
  end
end

local function connect_one(address, port, opts)
  local from = opts.local_addr
  local host = from and (from.host or WILDCARD[address.family])
  local socket = core.tcp_socket(address.host, host, from and from.port)
  local ok, err = pcall(socket.connect, socket, address.host, port)
  if not ok then
    socket:close()
    error(err, 0)
  end
  return core.stream(socket, opts.limit)
end

-- Tries one address after the other; the last one's error is raised.
local function connect_any(addresses, port, opts)
  local errors = {}
  for _, address in ipairs(addresses) do
    local ok, result = core.pcall(connect_one, address, port, opts)
    if ok then return result end
    errors[#errors + 1] = result
  end
  local last = errors[#errors]
  if core.is_error(last) then last.errors = errors end
  error(last, 0)
end

local function resolve_all(host, family)
  if type(host) == "string" then return names.resolve(host, family) end
  local list = {}
  for _, one in ipairs(host) do
    for _, address in ipairs(names.resolve(one, family)) do list[#list + 1] = address end
  end
  return list
end

local function with_timeout(seconds, what, fn)
  if not seconds then return fn() end
  local scope = core.cancel_scope(core.time() + seconds)
  local ok, result = scope:run(fn)
  if ok then return result end
  core.raise("TimeoutError", ("%s: no connection within %g s"):format(what, seconds))
end

local function check_host(position, name, host)
  if type(host) == "table" then
    for _, one in ipairs(host) do
      if type(one) ~= "string" then
        options.bad_argument(position, name, "a list of strings is expected")
      end
    end
    if #host == 0 then options.bad_argument(position, name, "the list of hosts is empty") end
    return host
  end
  return options.check_type(position, name, host, "string")
end

local function connect(name, host, port, opts)
  check_host(1, name, host)
  port = M.check_port(2, name, port, 1)
  opts = options.check(3, name, opts, OPTIONS)
  M.refuse_not_yet(3, name, opts, NOT_YET)
  M.check_family(3, name, opts.family)
  M.check_limit(3, name, opts.limit)
  check_local_addr(3, name, opts.local_addr)
  local what = ("connect %s:%d"):format(type(host) == "string" and host or "a list", port)
  return with_timeout(opts.timeout, what, function()
    return connect_any(resolve_all(host, opts.family), port, opts)
  end)
end

--- Connects by TCP. Awaits.
-- @param host string (a name or numeric address), or a list of these
-- @param port integer, 1 to 65535
-- @param[opt] opts table: `limit` (bytes of the longest line, 1 MiB), `timeout`
-- (seconds for it all), `family` ("inet" or "inet6"), `local_addr` ({host=, port=})
-- @return Stream
-- @raise ConnectionRefusedError or another OSError (when every address fails: the
-- last one's error, all of them in `errors`); TimeoutError; DNSError with `host` and
-- `code`, "EAI_NONAME" (no such name) or "EAI_FAMILY" (no address of that family);
-- bad argument for an option that does not exist or of another type; see Awaiting
-- functions
-- @see asyncio.open_connection
function M.connect(host, port, opts)
  return (connect("connect", host, port, opts))
end

--- Connects as `connect` does and gives the Stream twice: as reader and as writer.
-- Awaits. Parameters and errors are those of `connect`.
-- @return Stream, Stream
-- @see asyncio.open_connection
function M.open_connection(host, port, opts)
  local stream = connect("open_connection", host, port, opts)
  return stream, stream
end

-- ---- iterators ---------------------------------------------------------------

local Stream = core.stream_methods

--- Iterates over the lines, without their "\n". Awaits at each step.
-- @function Stream:lines
-- @return iterator of strings, which ends at end of file
-- @raise at each step what `readline` raises
-- @see asyncio.StreamReader
function Stream:lines()
  return function()
    local line = self:readline()
    return line and (line:gsub("\n$", ""))
  end
end

--- Iterates over whatever comes, in pieces of up to `n` bytes. Awaits at each.
-- @function Stream:chunks
-- @param[opt=65536] n integer, bytes
-- @return iterator of strings, which ends at end of file
-- @raise at each step what `read` raises
-- @see asyncio.StreamReader.read
function Stream:chunks(n)
  return function() return self:read(n or 65536) end
end

return M

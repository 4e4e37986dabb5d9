-- SPDX-License-Identifier: MIT
-- Streams as far as they are policy: connecting (names, several addresses, a
-- time limit), making one of pipes and terminals, iterating. The Stream itself is
-- C.

local core = require "moonloop.core"
local addresses = require "moonloop.addresses"
local extra_info = require "moonloop.extra_info"
local eyeballs = require "moonloop.eyeballs"
local names = require "moonloop.names"
local options = require "moonloop.options"
local socket = require "moonloop.socket"
local sources = require "moonloop.sources"
local tls_streams = require "moonloop.tls_streams"
require "moonloop.transfer"

local M = {}

local UNIX = options.with(tls_streams.CLIENT_OPTIONS, { timeout = "number", sock = "any" })
local TCP = options.with(UNIX, {
  family = "string", local_addr = "table", happy_eyeballs_delay = "number",
})
local LIMIT = { limit = "number" }

local STREAM_TCP, STREAM_UNIX = options.with(TCP, LIMIT), options.with(UNIX, LIMIT)

function M.check_limit(position, name, limit)
  if limit == nil then return end
  if not math.tointeger(limit) or limit < 1 or limit > 0x7fffffff then
    options.bad_argument(position, name, "option 'limit' must be a positive number of bytes")
  end
end

local LOCAL_ADDR = { host = "string", port = "number" }

local function check_local_addr(position, name, addr, family)
  if addr == nil then return end
  options.check(position, name, addr, LOCAL_ADDR)
  if addr.port ~= nil then addresses.check_port(position, name, addr.port, 0) end
  local its_family = addr.host and core.numeric_family(addr.host)
  if its_family and family and its_family ~= family then
    options.bad_argument(position, name,
      ("option 'local_addr': host '%s' is not of family '%s'"):format(addr.host, family))
  end
end

local ANY_HOST = { inet = "0.0.0.0", inet6 = "::" }

-- Family -> the local address that connections of this family begin at; nil: any.
local function local_addresses(opts)
  local from = opts.local_addr
  if not from then return nil end
  local hosts = from.host == nil and ANY_HOST or {}
  for _, address in ipairs(from.host and names.resolve(from.host, opts.family) or {}) do
    hosts[address.family] = hosts[address.family] or address.host
  end
  local locals = {}
  for family, host in pairs(hosts) do locals[family] = { host = host, port = from.port or 0 } end
  return locals
end

-- Addresses of another family than those of the local address are of no use.
local function family_of(opts, locals)
  if opts.family or not locals or locals.inet and locals.inet6 then return opts.family end
  return (next(locals))
end

-- A host of several that has no address is passed over, unless none has.
local function resolve_all(host, port, opts)
  local locals = local_addresses(opts)
  local family = family_of(opts, locals)
  local list, failure = {}, nil
  for _, one in ipairs(type(host) == "table" and host or { host }) do
    local ok, found = core.pcall(names.resolve, one, family)
    if not ok then failure = found end
    for _, address in ipairs(ok and found or {}) do
      list[#list + 1] = { host = address.host, family = address.family, port = port,
        from = locals and locals[address.family] }
    end
  end
  if #list == 0 then error(failure, 0) end
  return list
end

local function with_timeout(seconds, what, fn)
  if not seconds then return fn() end
  local scope = core.cancel_scope(core.time() + seconds)
  local ok, result = scope:run(fn)
  if ok then return result end
  core.raise("TimeoutError", ("%s: no connection within %g s"):format(what, seconds))
end

-- ---- connecting ----------------------------------------------------------------

local function check_connect_options(position, name, opts, known)
  opts = options.check(position, name, opts, known)
  addresses.check_family(position, name, opts.family)
  M.check_limit(position, name, opts.limit)
  check_local_addr(position, name, opts.local_addr, opts.family)
  options.check_timeout(position, name, opts.timeout)
  options.check_duration(position, name, "happy_eyeballs_delay", opts.happy_eyeballs_delay)
  return opts
end

-- Beside the option `sock` nothing else is given.
local function check_alone(first, name, ...)
  for i = 1, select("#", ...) do
    if select(i, ...) ~= nil then
      options.bad_argument(first + i - 1, name, "nil expected beside the option 'sock'")
    end
  end
end

-- Where `opts.sock` is there that is used, else what `connect_new` gives. Awaits.
local function connected_with(position, name, opts, connect_new)
  if opts.sock == nil then return connect_new() end
  return socket.check_connected(position, name, opts.sock)
end

--- Connects by TCP for the function `name`, whose host is argument `first`. Awaits.
-- @param make function(Socket, options, TLS settings or nil): makes of it what is
-- wanted, within the time limit
-- @return what `make` gives
function M.connect_tcp(first, name, host, port, opts, known, make)
  opts = check_connect_options(first + 2, name, opts, known or TCP)
  if opts.sock ~= nil then
    check_alone(first, name, host, port)
  else
    addresses.check_host(first, name, host)
    port = addresses.check_port(first + 1, name, port, 1)
  end
  local settings = tls_streams.client_settings(first + 2, name, opts, host, port)
  local what = ("connect %s:%s"):format(type(host) == "string" and host or "a list", port)
  return with_timeout(opts.timeout, what, function()
    local connected = connected_with(first + 2, name, opts, function()
      return eyeballs.connect(resolve_all(host, port, opts), opts)
    end)
    return make(connected, opts, settings)
  end)
end

--- The same to the path of a Unix socket.
function M.connect_path(first, name, path, opts, known, make)
  opts = options.check(first + 1, name, opts, known or UNIX)
  options.check_timeout(first + 1, name, opts.timeout)
  M.check_limit(first + 1, name, opts.limit)
  if opts.sock ~= nil then
    check_alone(first, name, path)
  else
    addresses.check_path(first, name, path)
  end
  local settings = tls_streams.client_settings(first + 1, name, opts, nil)
  local what = "connect " .. (path or "a socket"):gsub("^%z", "@")
  return with_timeout(opts.timeout, what, function()
    local connected = connected_with(first + 1, name, opts, function()
      return socket.connected({ path = path })
    end)
    return make(connected, opts, settings)
  end)
end

local function make_stream(connected, opts, settings)
  local stream = core.stream(connected, opts.limit)
  if settings then tls_streams.start_new(stream, settings) end
  return stream
end

local function connect(name, host, port, opts)
  return M.connect_tcp(1, name, host, port, opts, STREAM_TCP, make_stream)
end

local function connect_unix(name, path, opts)
  return M.connect_path(1, name, path, opts, STREAM_UNIX, make_stream)
end

--- Connects by TCP. Awaits. Of several addresses the first that answers is taken:
-- families take turns, and each attempt gets `happy_eyeballs_delay` before the
-- next one begins (RFC 8305).
-- @param host string (a name or numeric address), or a list of these
-- @param port integer, 1 to 65535
-- @param[opt] opts table: `limit` (bytes of the longest line, 1 MiB), `timeout`
-- (seconds for it all), `family` ("inet" or "inet6"), `local_addr` ({host=, port=}),
-- `happy_eyeballs_delay` (seconds, 0.25), `sock` (a connected Socket, which is
-- emptied, or its descriptor; host and port are nil then), `tls` (true: verified by
-- the system's authorities; or a context of `tls.client_context`), `server_hostname`
-- (string, the host: whose certificate it has to be; "" asks for nobody),
-- `tls_handshake_timeout` (seconds, 60), `tls_shutdown_timeout` (seconds, 30: how long
-- saying the end may take when it is closed, and after that each step of arriving)
-- @return Stream
-- @raise ConnectionRefusedError or another OSError (when every address fails: of the
-- last one's kind, all of them in `errors`); TimeoutError; CertificateError and
-- TLSError (code "EOF" when the peer goes in the handshake); DNSError with `host` and
-- `code`, "EAI_NONAME" (no such name), "EAI_AGAIN" (no server answers), "EAI_FAIL" or
-- "EAI_FAMILY" (no address of that family); bad argument for an option that does not
-- exist or of another type; see Awaiting functions
-- @see asyncio.open_connection
function M.connect(host, port, opts)
  return (connect("connect", host, port, opts)) -- no tail call: tracebacks name it
end

--- Connects as `connect` does and gives the Stream twice: as reader and as writer.
-- Awaits. Parameters and errors are those of `connect`.
-- @return Stream, Stream
-- @see asyncio.open_connection
function M.open_connection(host, port, opts)
  local stream = connect("open_connection", host, port, opts)
  return stream, stream
end

--- Connects to a Unix socket. Awaits.
-- @param path string; behind a "\0" an abstract name
-- @param[opt] opts table: `limit` (bytes), `timeout` (seconds), `sock` (a connected
-- Socket or its descriptor; path is nil then), `tls` and what goes with it as `connect`
-- @return Stream
-- @raise FileNotFoundError, ConnectionRefusedError, PermissionError or another
-- OSError; TimeoutError; CertificateError, TLSError; see Awaiting functions
-- @see asyncio.open_unix_connection
function M.connect_unix(path, opts)
  return (connect_unix("connect_unix", path, opts))
end

--- Connects as `connect_unix` does and gives the Stream twice. Awaits.
-- @return Stream, Stream
-- @see asyncio.open_unix_connection
function M.open_unix_connection(path, opts)
  local stream = connect_unix("open_unix_connection", path, opts)
  return stream, stream
end

-- ---- pairs, pipes, terminals ---------------------------------------------------

local function limit_of(position, name, opts)
  opts = options.check(position, name, opts, LIMIT)
  M.check_limit(position, name, opts.limit)
  return opts.limit
end

--- Makes two Streams that are connected to each other.
-- @param[opt] opts table: `limit` (bytes)
-- @return Stream, Stream
-- @raise OSError, code EMFILE when descriptors are out
-- @see socket.socketpair
function M.socketpair(opts)
  local limit = limit_of(1, "socketpair", opts)
  local a, b = core.socketpair("stream")
  return core.stream(a, limit), core.stream(b, limit)
end

--- Makes a Stream that reads from a pipe, or whatever the descriptor is. It owns an
-- integer; a Lua file is closed with it in that its descriptor becomes /dev/null.
-- @param source integer, Lua file, or object with `fileno()`
-- @param[opt] opts table: `limit` (bytes)
-- @return Stream; writing raises InvalidStateError
-- @raise OSError, code EBADF, when it is not open
-- @see asyncio.loop.connect_read_pipe
function M.connect_read_pipe(source, opts)
  sources.check(1, "connect_read_pipe", source)
  return (core.pipe_stream(source, "read", limit_of(2, "connect_read_pipe", opts)))
end

--- Makes a Stream that writes to a pipe, or whatever the descriptor is; else as
-- `connect_read_pipe`.
-- @param source integer, Lua file, or object with `fileno()`
-- @param[opt] opts table: `limit` (bytes)
-- @return Stream; reading raises InvalidStateError
-- @raise OSError, code EBADF, when it is not open
-- @see asyncio.loop.connect_write_pipe
function M.connect_write_pipe(source, opts)
  sources.check(1, "connect_write_pipe", source)
  return (core.pipe_stream(source, "write", limit_of(2, "connect_write_pipe", opts)))
end

--- Opens a pseudo-terminal. The master reads end of file once nobody has the slave
-- open any more.
-- @param[opt] opts table: `limit` (bytes)
-- @return Stream (the master), string (the path of the slave)
-- @raise OSError
-- @see os.openpty
function M.open_pty(opts)
  return core.open_pty(limit_of(1, "open_pty", opts))
end

-- ---- methods -------------------------------------------------------------------

local Stream = core.stream_methods

--- Asks about what is below the stream.
-- @function Stream:get_extra_info
-- @param name string: "peername" or "sockname" ({host=, port=} or {path=}),
-- "peercred" (of a Unix socket: {pid=, uid=, gid=}), "socket" (an object with
-- `getsockname`, `getpeername`, `getsockopt`, `setsockopt`, `fileno`), "pipe" (the
-- descriptor), "tls" ({version=, cipher=, alpn=, peercert=, verified=, resumed=,
-- server_hostname=}), "peercert" (of the peer's certificate {subject=, issuer=,
-- serial=, not_before= and not_after= (seconds since the epoch), san= (list),
-- fingerprint_sha256=, pem=}), "cipher" (its name)
-- @param[opt] default any value, returned for what is not known
-- @see asyncio.BaseTransport.get_extra_info
Stream.get_extra_info = extra_info.get
Stream.start_tls = tls_streams.start_stream
core.transport_methods.get_extra_info = extra_info.get

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
  if n ~= nil and (not math.tointeger(n) or n < 1) then
    options.bad_argument(1, "chunks", "a positive number of bytes is expected")
  end
  return function() return self:read(n or 65536) end
end

return M

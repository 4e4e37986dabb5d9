-- SPDX-License-Identifier: MIT
-- What the TLS specs share: contexts with the certificates of certificates.lua, an echo server
-- over TLS, pairs of TLS streams, attempts that may fail and what the server reports then.
-- Builds on the public names, net.lua and certificates.lua.
local assert = require "luassert"
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local net = require "spec.support.net"

local M = {}

M.HOST = "127.0.0.1"

--- What the message of each failed handshake begins with, as a pattern: the peer's address,
-- perhaps behind its name.
M.HANDSHAKE = "^tls handshake with [^:]-127%.0%.0%.1:%d+%)?: "

local PATIENCE = 20 -- seconds in which a report, or the end of an attempt, has to come

local function merged(defaults, options)
  local all = {}
  for key, value in pairs(defaults) do all[key] = value end
  for key, value in pairs(options or {}) do all[key] = value end
  return all
end

--- A server context.
-- @param leaf the name of a certificate of certificates.lua; "server" by default
-- @param options further options of server_context, or others in the place of these
function M.server(leaf, options)
  local own = certs[leaf or "server"]
  return moonloop.tls.server_context(merged({
    cert = own.chain or own.cert, key = own.key, key_password = own.password,
  }, options))
end

--- A client context that trusts `certs.ca`.
-- @param options further options of client_context, or others in the place of these
function M.client(options)
  return moonloop.tls.client_context(merged({ ca_file = certs.ca }, options))
end

--- A client context that has a certificate, too.
-- @param leaf the certificate's name in certificates.lua; "client" by default
function M.client_with(leaf, options)
  local own = certs[leaf or "client"]
  return M.client(merged({ cert = own.cert, key = own.key }, options))
end

--- A server on loopback that sends back what comes, until the client ends. Awaits.
-- @param context a server context; that of M.server() by default
-- @param options of start_server; `host` in the place of 127.0.0.1
-- @return the Server, which a to-be-closed variable ends
function M.echo(context, options)
  options = merged({ tls = context or M.server() }, options)
  local host = options.host or M.HOST
  options.host = nil
  return moonloop.start_server(function(stream)
    for chunk in stream:chunks() do stream:write(chunk) end
  end, host, 0, options)
end

--- A server on loopback that answers each connection with a line, and waits until the client
-- ends. Awaits.
-- @param context a server context
-- @param line function(stream) that gives the line
function M.teller(context, line, options)
  return moonloop.start_server(function(stream)
    stream:write(line(stream), "\n")
    stream:read()
  end, M.HOST, 0, merged({ tls = context }, options))
end

--- Connects to a server of this process. Awaits.
-- @param server the Server, or a port
-- @param context a client context; that of M.client() by default
-- @param options of connect; `host` in the place of 127.0.0.1; server_hostname is "localhost"
--   unless said otherwise, and none of ours with `server_hostname = false`
function M.connect(server, context, options)
  options = merged({ tls = context or M.client(), server_hostname = "localhost" }, options)
  if options.server_hostname == false then options.server_hostname = nil end
  local host = options.host or M.HOST
  options.host = nil
  return moonloop.connect(host, type(server) == "number" and server or server:port(), options)
end

--- Sends a line to an echo server and has it back. Awaits.
function M.talk(stream, line)
  line = (line or "hello") .. "\n"
  stream:write(line)
  assert.equal(line, stream:readline())
end

--- Has a line go each way between the two ends of a pair. Awaits.
function M.talk_both(pair)
  pair.client:write("ping\n")
  assert.equal("ping\n", pair.peer:readline())
  pair.peer:write("pong\n")
  assert.equal("pong\n", pair.client:readline())
end

--- Two connected TLS streams: `client` and `peer` (see net.pair), which a to-be-closed variable
-- aborts. Awaits.
-- @param opts `client` and `server`: contexts; `client_options` and `server_options`: further
--   options for connect and start_server
function M.pair(opts)
  opts = opts or {}
  return net.pair {
    host = M.HOST,
    client = merged({ tls = opts.client or M.client(), server_hostname = "localhost" },
      opts.client_options),
    server = merged({ tls = opts.server or M.server() }, opts.server_options),
  }
end

local Reports = {}
Reports.__index = Reports
Reports.__name = "Reports"
Reports.__close = function() moonloop.get_running_loop():set_exception_handler(nil) end

--- Waits until `count` reports (1 by default) have come, and gives the last of them. Awaits.
function Reports:wait(count)
  count = count or 1
  local _ <close> = moonloop.timeout(PATIENCE)
  while #self < count do
    self.came:clear()
    self.came:wait()
  end
  return self[count]
end

--- Collects what goes to the exception handler until the value is closed, but for the warning
-- about verify=false, which comes once, wherever that is.
function M.reports()
  local list = setmetatable({ came = moonloop.Event() }, Reports)
  moonloop.get_running_loop():set_exception_handler(function(_, context)
    if not context.message:find("verify=false", 1, true) then
      list[#list + 1] = context
      list.came:set()
    end
  end)
  return list
end

--- Connects to an echo server, talks, and says how that went. Awaits.
-- @param server and context and options as for `connect`
-- @param use function(stream), in the place of `talk`
-- @return the Error, or nil; what get_extra_info("tls") gave the client, if it got so far
function M.try(server, context, options, use)
  local info
  local ok, err = pcall(function()
    local _ <close> = moonloop.timeout(PATIENCE)
    local stream <close> = M.connect(server, context, options)
    info = stream:get_extra_info("tls");
    (use or M.talk)(stream)
  end)
  if ok then return nil, info end
  assert(moonloop.is_error(err), tostring(err))
  return err, info
end

--- For `try` and `fails`: reads what may come, and writes nothing. So the client whom a server of
-- TLS 1.3 refuses after the handshake hears why: a server that closes with bytes unread resets
-- the connection, and what it had said may be lost.
function M.listen(stream)
  stream:read(1)
end

--- Has a client talk with an echo server of its own. Awaits.
-- @param opts `server` and `client`: contexts; `client_options` and `server_options`
-- @return what get_extra_info("tls") gave the client
function M.succeeds(opts)
  local server <close> = M.echo(opts.server, opts.server_options)
  local err, info = M.try(server, opts.client, opts.client_options)
  if err then error(err, 0) end
  return info
end

--- Has a client fail with an echo server of its own, which has to report that once and then to
-- serve another. Awaits.
-- @param kind the kind of the client's Error
-- @param opts as for `succeeds`, and `use` (see `try`), `after`: the other client's context;
--   M.client{verify=false} by default
-- @return the client's Error, and the one the server reports
function M.fails(kind, opts)
  local reports <close> = M.reports()
  local server <close> = M.echo(opts.server, opts.server_options)
  local err = M.try(server, opts.client, opts.client_options, opts.use)
  assert(moonloop.is_error(err, kind), kind .. " expected, got " .. tostring(err))
  local report = reports:wait()
  assert.equal("TLS handshake with a client failed", report.message)
  assert(moonloop.is_error(report.error, "TLSError"), tostring(report.error))
  assert.is_nil((M.try(server, opts.after or M.client { verify = false },
    { host = opts.client_options and opts.client_options.host })))
  assert.equal(1, #reports)
  return err, report.error
end

return M

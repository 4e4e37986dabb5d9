-- SPDX-License-Identifier: MIT
-- TLS on streams and transports: the options of those that connect and listen, and
-- the handshake with its time limit. The steps of it are C.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local contexts = require "moonloop.tls_contexts"
local options = require "moonloop.options"

local M = {}

local HANDSHAKE_SECONDS = 60
local SHUTDOWN_SECONDS = 30
local HANDSHAKES_AT_MOST = 1000 -- of one server, at once

--- What goes with `tls=` in servers, and in clients.
M.SERVER_OPTIONS = {
  tls = "any", tls_handshake_timeout = "number", tls_shutdown_timeout = "number",
}
M.CLIENT_OPTIONS = options.with(M.SERVER_OPTIONS, { server_hostname = "string" })

-- ---- options -------------------------------------------------------------------

-- Settings: what a handshake is done with.
local function settings_of(position, name, opts, context)
  return {
    context = context,
    handshake = options.check_duration(position, name, "tls_handshake_timeout",
      opts.tls_handshake_timeout) or HANDSHAKE_SECONDS,
    shutdown = options.check_duration(position, name, "tls_shutdown_timeout",
      opts.tls_shutdown_timeout) or SHUTDOWN_SECONDS,
  }
end

local function refuse_without_tls(position, name, opts, known)
  for option in pairs(known) do
    if option ~= "tls" and opts[option] ~= nil then
      options.bad_argument(position, name, ("option '%s' is only for 'tls'"):format(option))
    end
  end
end

-- The context, or nil where there is to be no TLS.
local function check_context(position, name, what, value, for_server)
  contexts.check_built(name)
  if value == true and not for_server then return contexts.default() end
  local is_context, is_server = contexts.kind_of(value)
  local role = for_server and "server" or "client"
  if not is_context then
    options.bad_argument(position, name, ("%sa context of moonloop.tls.%s_context expected, got %s")
      :format(what, role, value == true and "true" or options.type_name(value)))
  end
  if is_server ~= for_server then
    options.bad_argument(position, name, ("%sa context for %ss expected, got one for %ss")
      :format(what, role, is_server and "server" or "client"))
  end
  return value
end

local function check_name(position, name, host)
  if #host > 253 or host:find("[%z%s/]") then
    options.bad_argument(position, name, "option 'server_hostname': no host has such a name")
  end
  return host
end

-- Sets whom to ask for. A numeric address is looked for among the certificate's, and
-- nobody is asked for it.
local function expect(settings, host)
  if host == "" then return end
  settings.numeric = core.numeric_family(host) ~= nil
  settings.name = settings.numeric and host:gsub("%%.*$", "") or host:gsub("%.$", "")
end

local function set_key(settings, host, port)
  settings.key = ("%s\n%s\n%s"):format(host, port, settings.name or "")
end

local function client_settings(position, name, opts, context, host)
  local settings = settings_of(position, name, opts, context)
  host = opts.server_hostname or host
  if host then
    expect(settings, check_name(position, name, host))
  elseif contexts.verifies(context) then
    options.bad_argument(position, name, "option 'server_hostname' is needed here: "
      .. "the certificate has to be for somebody")
  end
  return settings
end

--- Looks at the options of a function that connects.
-- @param host string that is connected to, or something else that is no name
-- @return settings, or nil where there is to be no TLS
function M.client_settings(position, name, opts, host, port)
  if opts.tls == nil or opts.tls == false then
    refuse_without_tls(position, name, opts, M.CLIENT_OPTIONS)
    return nil
  end
  local context = check_context(position, name, "option 'tls': ", opts.tls, false)
  host = type(host) == "string" and host ~= "" and host or nil
  local settings = client_settings(position, name, opts, context, host)
  if host and port then set_key(settings, host, port) end
  return settings
end

--- The same of a server.
function M.server_settings(position, name, opts)
  if opts.tls == nil or opts.tls == false then
    refuse_without_tls(position, name, opts, M.SERVER_OPTIONS)
    return nil
  end
  local context = check_context(position, name, "option 'tls': ", opts.tls, true)
  local settings = settings_of(position, name, opts, context)
  settings.crowd, settings.first, settings.last, settings.count = {}, 1, 0, 0
  return settings
end

-- ---- the handshake -------------------------------------------------------------

-- Lets the program choose by the name that a client asks for.
local function choose_by_name(stream, settings, name)
  local chooser = contexts.chooser_of(settings.context)
  local context = core.unyieldable("the sni function", chooser, name)
  if context == nil then return end
  local _, is_server = contexts.kind_of(context)
  if not is_server then
    core.raise("TLSError", "the sni function gave no context for servers but "
      .. options.type_name(context))
  end
  core.tls_choose(stream, context)
end

local function choose(stream, settings, name)
  local ok, err = pcall(choose_by_name, stream, settings, name)
  if ok then return end
  core.tls_refuse(stream)
  error(err, 0)
end

local function shake(stream, settings)
  while true do
    local state, name = core.tls_handshake(stream)
    if state == "done" then return end
    choose(stream, settings, name)
  end
end

local function shake_in_time(stream, settings)
  local scope = core.cancel_scope(core.time() + settings.handshake)
  if scope:run(shake, stream, settings) then return end
  core.raise("TimeoutError", ("tls handshake with %s: not done within %g s")
    :format(core.stream_name(stream), settings.handshake))
end

-- Puts TLS on the stream once what was written before is out.
local function begin(stream, settings, has_unsent)
  if has_unsent then core.take_pen(stream) end
  local _ <close> = blocks.on_leaving(function()
    if has_unsent then core.drop_pen(stream) end
  end)
  core.tls_begin(stream, settings.context, settings.name, settings.numeric, settings.key,
    settings.shutdown)
end

-- Where it comes to nothing the stream stays as it was, but not behind `tls_begin`.
local Attempt = {}
local attempt_mt = { __index = Attempt }

function Attempt:run()
  core.check()
  begin(self.stream, self.settings, self.has_unsent)
  self.begun = true
  shake_in_time(self.stream, self.settings)
  self.done = true
end

-- Twice is fine.
function Attempt:finish(err)
  if self.done then return end
  self.done = true
  if self.begun then core.tls_give_up(self.stream, err) else core.tls_let_go(self.stream) end
end

--- Starts TLS on a stream or transport. Awaits. Where the handshake fails, or is
-- cancelled, it is closed.
function M.start(stream, settings)
  local attempt = setmetatable({ stream = stream, settings = settings,
    has_unsent = core.tls_prepare(stream) }, attempt_mt)
  local _ <close> = blocks.on_leaving(function() attempt:finish() end) -- closed by force
  local ok, err = pcall(attempt.run, attempt)
  if ok then return end
  attempt:finish(err)
  error(err, 0)
end

--- The same for one that was just made, which is closed whatever happens.
function M.start_new(stream, settings)
  local done
  local _ <close> = blocks.on_leaving(function()
    if not done then stream:abort() end
  end)
  M.start(stream, settings)
  done = true
end

-- ---- in servers ----------------------------------------------------------------

local function report(err)
  core.call_exception_handler(nil, { message = "TLS handshake with a client failed", error = err })
end

local function leave(settings, number)
  if not settings.crowd[number] then return end
  settings.crowd[number] = nil
  settings.count = settings.count - 1
  if settings.count == 0 then settings.first = settings.last + 1 end
end

-- Too many clients that are slow, or silent: the oldest has to go.
local function drop_oldest(settings)
  while settings.crowd[settings.first] == nil do settings.first = settings.first + 1 end
  local stream = settings.crowd[settings.first]
  leave(settings, settings.first)
  report(core.TLSError:new(("tls handshake with %s: given up, more than %d are under way")
    :format(core.stream_name(stream), HANDSHAKES_AT_MOST)))
  stream:abort()
end

local function join(settings, stream)
  local number = settings.last + 1
  settings.last = number
  settings.crowd[number] = stream
  settings.count = settings.count + 1
  if settings.count > HANDSHAKES_AT_MOST then drop_oldest(settings) end
  return blocks.on_leaving(function() leave(settings, number) end)
end

--- Does a server's part of the handshake. Awaits. What goes wrong is reported, but for
-- a client that goes away without a word, or where the server itself has closed it.
-- @return whether it went well
function M.accept(stream, settings)
  local _ <close> = join(settings, stream)
  local ok, err = core.pcall(M.start_new, stream, settings)
  if ok then return true end
  local of_us = core.is_error(err, "InvalidStateError")
  local of_nobody = core.is_error(err) and not core.tls_heard(stream)
    and (err.code == "EOF" or core.is_error(err, "ConnectionError"))
  if not of_us and not of_nobody then report(err) end
  return false
end

-- ---- start_tls -----------------------------------------------------------------

local START_OPTIONS = {
  server_side = "boolean", server_hostname = "string", tls_handshake_timeout = "number",
  tls_shutdown_timeout = "number",
}

local function is_for_server(context, opts)
  local is_context, is_server = contexts.kind_of(context)
  local wanted = opts.server_side
  if wanted == nil then wanted = is_context and is_server end
  return wanted
end

-- The settings for a function whose context is argument `first`.
local function start_settings(first, name, stream, context, opts)
  contexts.check_built(name)
  opts = options.check(first + 1, name, opts, START_OPTIONS)
  local for_server = is_for_server(context, opts)
  context = check_context(first, name, "", context, for_server)
  if for_server then
    if opts.server_hostname then
      options.bad_argument(first + 1, name, "option 'server_hostname' is only for clients")
    end
    return settings_of(first + 1, name, opts, context)
  end
  local settings = client_settings(first + 1, name, opts, context, nil)
  set_key(settings, core.stream_name(stream), "")
  return settings
end

--- Goes over to TLS on a connection that is open. Awaits until the handshake is done.
-- What is unsent goes out before; what was received and not read is TLS's. Nobody may
-- read or write meanwhile. Where the handshake fails, or is cancelled, the stream is
-- closed.
-- @function Stream:start_tls
-- @param context TLSContext, or true for that of `tls=true`
-- @param[opt] opts table: `server_side` (boolean; the context's role), `server_hostname`
-- (string: whose certificate it has to be, needed by clients that verify; "" asks for
-- nobody), `tls_handshake_timeout` (seconds, 60), `tls_shutdown_timeout` (seconds, 30:
-- how long saying the end may take when it is closed)
-- @raise CertificateError, TLSError (code "EOF" when the peer goes), TimeoutError,
-- ConnectionResetError or another OSError; InvalidStateError when closed, when another
-- task reads or writes, where there is TLS already, and on what is no socket; bad
-- argument for a context of the other role; see Awaiting functions
-- @see asyncio.StreamWriter.start_tls
function M.start_stream(stream, context, opts)
  if not options.has_methods(stream, core.stream_methods) then
    options.bad_self("start_tls", "Stream", stream)
  end
  M.start(stream, start_settings(1, "start_tls", stream, context, opts))
end

--- Goes over to TLS on a transport. Awaits. `connection_made` is not called again;
-- when it fails `connection_lost` is given the error.
-- @function Loop:start_tls
-- @param transport Transport
-- @param protocol table: who is called from then on
-- @param context, opts as of `Stream:start_tls`
-- @return the same Transport
-- @raise as `Stream:start_tls`
-- @see asyncio.loop.start_tls
function M.start_tls(_, transport, protocol, context, opts)
  if not options.has_methods(transport, core.transport_methods) then
    options.bad_argument(1, "start_tls", "Transport expected, got "
      .. options.type_name(transport))
  end
  options.check_type(2, "start_tls", protocol, "table")
  local settings = start_settings(3, "start_tls", transport, context, opts)
  core.check()
  M.start(transport, settings)
  if transport:get_protocol() ~= protocol then transport:set_protocol(protocol) end
  return transport
end

return M

-- SPDX-License-Identifier: MIT
-- Contexts of TLS, which say whom to trust, by what one is known and what may be
-- spoken. Options are looked at here; OpenSSL gets them in C.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local COMMON = {
  cert = "string", key = "string", key_password = "string", alpn = "table",
  min_version = "string", max_version = "string", ciphers = "string",
  allow_truncation = "boolean",
}

local CLIENT = options.with(COMMON, {
  ca_file = "string", ca_path = "string", verify = "boolean", session_cache = "boolean",
})

local SERVER = options.with(COMMON, {
  client_ca = "string", verify_client = "boolean or string", sni = "any",
})

-- Numbers as they go over the wire.
local VERSIONS = {
  ["TLSv1"] = 0x301, ["TLSv1.1"] = 0x302, ["TLSv1.2"] = 0x303, ["TLSv1.3"] = 0x304,
}

local DEFAULT_VERSION = "TLSv1.2"

-- ---- looking at options --------------------------------------------------------

local function check_built(name)
  if core.tls_context then return end
  core.raise("Error", name .. ": Moonloop was built without TLS")
end

M.check_built = check_built

local function bad_option(name, option, text)
  options.bad_argument(1, name, ("option '%s': %s"):format(option, text))
end

local function check_strings(name, opts, known)
  for option, kind in pairs(known) do
    local value = opts[option]
    if kind == "string" and value ~= nil then
      if value == "" then bad_option(name, option, "the string is empty") end
      if value:find("\0", 1, true) then bad_option(name, option, "it has a zero byte in it") end
    end
  end
end

local function version(name, opts, option, default)
  local word = opts[option]
  if word == nil then return default end
  if not VERSIONS[word] then
    bad_option(name, option, ("there is no version '%s'; did you mean '%s'?")
      :format(word, options.nearest(word, VERSIONS)))
  end
  return VERSIONS[word]
end

-- The list as it goes over the wire: each name behind its length.
local function alpn_of(name, list)
  if list == nil then return nil end
  local pieces = {}
  for i, protocol in ipairs(list) do
    if type(protocol) ~= "string" or #protocol < 1 or #protocol > 255 then
      bad_option(name, "alpn", "a list of strings of 1 to 255 bytes is expected")
    end
    pieces[i] = string.pack("s1", protocol)
  end
  if #pieces == 0 then bad_option(name, "alpn", "a list of strings is expected, it is empty") end
  return table.concat(pieces)
end

-- OpenSSL has two lists: TLS 1.3's suites, and what else there is.
local function ciphers_of(text)
  local ciphers, suites = {}, {}
  for word in (text or ""):gmatch("[^:,%s]+") do
    local list = word:find("^TLS_") and suites or ciphers
    list[#list + 1] = word
  end
  return ciphers[1] and table.concat(ciphers, ":"), suites[1] and table.concat(suites, ":")
end

-- What both roles have.
local function prepared(name, opts)
  local result = {
    cert = opts.cert, key = opts.key, key_password = opts.key_password,
    alpn = alpn_of(name, opts.alpn),
    min_version = version(name, opts, "min_version", VERSIONS[DEFAULT_VERSION]),
    max_version = version(name, opts, "max_version", 0),
    allow_truncation = opts.allow_truncation,
  }
  if result.max_version ~= 0 and result.max_version < result.min_version then
    bad_option(name, "max_version", ("'%s' is below min_version '%s'")
      :format(opts.max_version, opts.min_version or DEFAULT_VERSION))
  end
  if opts.ciphers then
    result.ciphers, result.suites = ciphers_of(opts.ciphers)
    if not (result.ciphers or result.suites) then bad_option(name, "ciphers", "it names none") end
  end
  if opts.key and not opts.cert then
    bad_option(name, "key", "a key is of no use without the option 'cert'")
  end
  return result
end

-- ---- making contexts -----------------------------------------------------------

local warned = false

-- Said once: it is for trying things out.
local function warn_unverified()
  if warned then return end
  warned = true
  core.call_exception_handler(nil, {
    message = "TLS: verify=false: the certificates of servers are not verified, so anybody "
      .. "can pretend to be one; give ca_file to trust a certificate of your own",
  })
end

--- Makes a context for clients. Certificates and keys are paths or PEM text.
-- @function tls.client_context
-- @param[opt] opts table: `ca_file` (the authorities to trust, and only these),
-- `ca_path` (a folder of them, by OpenSSL's hashes; without both the system's),
-- `cert`, `key` (own certificate, with its chain; the key may stand beside it),
-- `key_password` (string), `alpn` (list of protocols, the preferred one first),
-- `min_version` ("TLSv1.2"), `max_version` ("TLSv1", "TLSv1.1", "TLSv1.2" or
-- "TLSv1.3"), `ciphers` (OpenSSL's list; those that begin with TLS_ are of TLS 1.3),
-- `verify` (boolean, true: look at chain, host name and dates), `session_cache`
-- (boolean, true: resume sessions), `allow_truncation` (boolean, false: an end
-- without close_notify is an error)
-- @return TLSContext
-- @raise FileNotFoundError, PermissionError or another OSError of a file; TLSError
-- where a file holds nothing of use, naming the option; bad argument for an option
-- that does not exist or of another type; Error where Moonloop was built without TLS
-- @see ssl.create_default_context
function M.client_context(opts)
  check_built("client_context")
  opts = options.check(1, "client_context", opts, CLIENT)
  check_strings("client_context", opts, CLIENT)
  local result = prepared("client_context", opts)
  result.ca_file, result.ca_path = opts.ca_file, opts.ca_path
  result.verify_mode = opts.verify == false and "none" or "required"
  result.session_cache = opts.session_cache ~= false
  local context = core.tls_context(result)
  if opts.verify == false then warn_unverified() end
  return context
end

local MODES = { [true] = "required", [false] = "none", optional = "optional" }

local function verify_mode(opts)
  local wanted = opts.verify_client
  if wanted == nil then wanted = false end
  local mode = MODES[wanted]
  if not mode then
    bad_option("server_context", "verify_client",
      ("true, false or 'optional' expected, got '%s'"):format(tostring(wanted)))
  end
  if mode ~= "none" and not opts.client_ca then
    bad_option("server_context", "verify_client", "it needs the option 'client_ca'")
  end
  return mode
end

--- Makes a context for servers. Certificates and keys are paths or PEM text.
-- @function tls.server_context
-- @param opts table: `cert` (with its chain), `key` (may stand beside it),
-- `key_password` (string), `client_ca` (the authorities that certificates of clients
-- are of), `verify_client` (false, "optional": look at it if there is one, or true:
-- there must be one), `sni` (function(name) that gives the server context for the
-- name that a client asks for, or nil for this one; name is nil where the client
-- asks for none; it must not await), `alpn`, `min_version`, `max_version`,
-- `ciphers`, `allow_truncation` as for clients
-- @return TLSContext
-- @raise as `client_context`
-- @see ssl.create_default_context
function M.server_context(opts)
  check_built("server_context")
  opts = options.check(1, "server_context", opts, SERVER)
  check_strings("server_context", opts, SERVER)
  if not opts.cert then
    options.bad_argument(1, "server_context", "the option 'cert' is needed")
  end
  if opts.sni ~= nil and not options.is_callable(opts.sni) then
    bad_option("server_context", "sni", "function expected, got " .. options.type_name(opts.sni))
  end
  local result = prepared("server_context", opts)
  result.server, result.client_ca = true, opts.client_ca
  result.verify_mode = verify_mode(opts)
  result.sni, result.asks_name = opts.sni, opts.sni ~= nil
  return core.tls_context(result)
end

-- ---- contexts ------------------------------------------------------------------

local Context = core.tls_context_methods or {}

--- Whether a value is a TLSContext, and whether it is for servers.
function M.kind_of(value)
  if not options.has_methods(value, Context) then return false end
  return true, core.tls_context_options(value).server == true
end

--- Gives the function that chooses a context by name, or nil.
function M.chooser_of(context) return core.tls_context_options(context).sni end

--- Whether the certificates of peers are looked at.
function M.verifies(context)
  return core.tls_context_options(context).verify_mode ~= "none"
end

--- Reads the certificates and keys again. Connections that are open go on; new ones
-- use what was read. After an error the context is as it was. Sessions of clients
-- can still be resumed, unless certificates of clients are asked for.
-- @function TLSContext:reload
-- @raise as `client_context`
-- @see ssl.SSLContext.load_cert_chain
function Context:reload()
  if not options.has_methods(self, Context) then options.bad_self("reload", "TLSContext", self) end
  core.replace_tls_context(self, core.tls_context(core.tls_context_options(self)))
end

local default

--- Gives the client context that `tls=true` stands for.
function M.default()
  default = default or M.client_context {}
  return default
end

return M

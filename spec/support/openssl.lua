-- SPDX-License-Identifier: MIT
-- openssl's s_client and s_server as peers of the TLS specs, with the certificates of
-- certificates.lua. Builds on dialogue.lua: both take and say all through one Stream.
local certs = require "spec.support.certificates"
local dialogue = require "spec.support.dialogue"
local programs = require "spec.support.programs"

local M = {}

local CLIENT = "openssl s_client -connect 127.0.0.1:%d -CAfile %s "
  .. "-verify_return_error -verify_hostname localhost %s"
local SERVER = "openssl s_server -accept 127.0.0.1:%d -cert %s -key %s %s"

--- Pends the spec unless the command is there.
function M.need()
  if programs.missing("openssl", "bash") then pending("openssl is not installed") end
end

--- Starts s_client, which trusts `certs.ca` and wants the name localhost. Awaits.
-- @param server the Server that it connects to
-- @param flags more of its flags; of two that say the same the later one counts
-- @return a to-be-closed Dialogue
function M.client(server, flags)
  flags = flags or ""
  if not flags:find("servername", 1, true) then flags = flags .. " -servername localhost" end
  return dialogue.start(CLIENT:format(server:port(), certs.ca, flags))
end

--- Starts s_client, which is to fail in its handshake, and waits for its end. Awaits.
-- @return all that it said
function M.client_fails(server, flags)
  local client <close> = M.client(server, flags)
  local status, said = client:finish()
  assert(status == 1, said)
  return said
end

--- Starts s_server and waits until it listens. Awaits.
-- @param flags more of its flags
-- @param leaf the name of its certificate; "server" by default
-- @param port any free one by default
-- @return a to-be-closed Dialogue, its port
function M.server(flags, leaf, port)
  local own = certs[leaf or "server"]
  local server = dialogue.start(SERVER:format(port or 0, own.cert, own.key, flags or ""))
  local found = server:expect("ACCEPT ?([%d.:]*)\n"):match("%d+$")
  return server, port or math.tointeger(tonumber(found))
end

--- The flags that name a certificate of certificates.lua.
function M.identity(leaf)
  return ("-cert %s -key %s"):format(certs[leaf].cert, certs[leaf].key)
end

return M

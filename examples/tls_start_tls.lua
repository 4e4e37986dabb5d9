-- SPDX-License-Identifier: MIT
-- What: a protocol that begins in plain text and goes over to TLS on the same connection
--       (STARTTLS), as mail, LDAP and PostgreSQL do.
-- Why: one port serves both, and what is said before costs nothing. Both sides call start_tls at
--      the same point of the conversation.
-- Usage: moonloop examples/tls_start_tls.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local authority <close> = certificates.authority "Moonloop example"
local server_context = tls.server_context(authority:issue { name = "localhost" })
local client_context = tls.client_context { ca_file = authority.file }

local commands = {}

function commands.PASSWORD(stream)
  local safe = stream:get_extra_info "tls"
  stream:write(safe and "welcome\n" or "not so loud, somebody may listen\n")
end

function commands.STARTTLS(stream)
  stream:write("go ahead\n") -- the last line in plain text
  stream:start_tls(server_context)
end

local server <close> = moonloop.start_server(function(stream)
  for line in stream:lines() do
    commands[line:match "%u+"](stream)
  end
end, "127.0.0.1", 0)

local stream <close> = moonloop.connect("127.0.0.1", server:port())

local function ask(line)
  stream:write(line, "\n")
  print(line, "->", (stream:readline():gsub("\n", "")))
end

ask "PASSWORD 1234"
ask "STARTTLS"
stream:start_tls(client_context, { server_hostname = "localhost" })
print(stream:get_extra_info("tls").version)
ask "PASSWORD 1234"

-- SPDX-License-Identifier: MIT
-- What: a server takes a new certificate into use while it runs.
-- Why: certificates are renewed every few weeks. reload() reads the files again; connections that
--      are open go on, and a file that is no good leaves everything as it was.
-- Usage: moonloop examples/tls_reload.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local authority <close> = certificates.authority "Moonloop example"

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

local function copy(from, to)
  local file <close> = assert(io.open(from))
  write(to, file:read "a")
end

local function issue(name)
  return authority:issue { name = name, san = "DNS:localhost" }
end

local own = issue "this month"
local context = tls.server_context(own)
local server <close> = moonloop.start_server(function(stream)
  for line in stream:lines() do
    stream:write("got ", line, "\n")
  end
end, "127.0.0.1", 0, { tls = context })

local client = tls.client_context { ca_file = authority.file, session_cache = false }

local function connect()
  local stream = moonloop.connect("localhost", server:port(), { tls = client })
  print(stream:get_extra_info("peercert").subject)
  return stream
end

local first <close> = connect()

local renewed = issue "next month"
copy(renewed.cert, own.cert)
copy(renewed.key, own.key)
context:reload()
local second <close> = connect()

write(own.cert, "this is no certificate\n")
local ok, e = moonloop.pcall(context.reload, context)
print(ok, e.kind)
local third <close> = connect()

for _, stream in ipairs { first, second, third } do
  stream:write("still here\n")
  io.write(stream:readline())
end

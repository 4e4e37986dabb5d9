-- SPDX-License-Identifier: MIT
-- What: the end of what one side sends is a message of TLS (close_notify). A connection that ends
--       without it was cut off, and reading says so.
-- Why: whoever sits on the way can end a TCP connection. Without the message, half an answer would
--      look like a whole one.
-- Usage: moonloop examples/tls_half_close.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local authority <close> = certificates.authority "Moonloop example"
local server_context = tls.server_context(authority:issue { name = "localhost" })
local client_context = tls.client_context { ca_file = authority.file }

-- Sorts what it gets, which can be done only when all of it is there; then breaks off, or ends.
local server <close> = moonloop.start_server(function(stream)
  local words = {}
  for line in stream:lines() do
    words[#words + 1] = line
  end
  table.sort(words)
  stream:write(table.concat(words, " "))
  if words[1] == "break" then
    stream:drain()
    stream:abort()
  end
end, "127.0.0.1", 0, { tls = server_context })

local function sort(...)
  local stream <close> = moonloop.connect("localhost", server:port(), { tls = client_context })
  for _, word in ipairs { ... } do
    stream:write(word, "\n")
  end
  stream:write_eof() -- that was all from us; the answer is yet to come
  return stream:read()
end

print(sort("moon", "earth", "sun"))
local ok, e = moonloop.pcall(sort, "break", "off", "here")
print(ok, e.kind, e.code)
print("what had come: " .. e.partial)

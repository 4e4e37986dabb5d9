-- SPDX-License-Identifier: MIT
-- What: fetches a page by HTTPS and prints it.
-- Why: names, connecting to the best address, TLS with everything checked and a time limit are one
--      call; the rest is HTTP.
-- Usage: moonloop examples/https_fetch.lua [URL]
--        Without a URL it fetches from a small server of its own.
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local http = require "lib.http"

-- Awaits. `tls` is a client context, or true for the system's authorities.
local function fetch(url, tls)
  local host, port, path = url:match "^https://([^/:]+):?(%d*)(.*)$"
  if not host then
    error("not an https URL: " .. url, 0)
  end
  port = tonumber(port) or 443
  local stream <close> = moonloop.connect(host, port, { tls = tls, timeout = 30 })
  stream:write("GET ", path == "" and "/" or path, " HTTP/1.1\r\nHost: ", host,
    port == 443 and "" or ":" .. port, "\r\nConnection: close\r\n\r\n")
  return http.read_response(stream)
end

local function show(answer)
  print(answer.status, answer.reason, answer.headers["content-type"])
  io.write(answer.body)
end

if arg[1] then
  show(fetch(arg[1], true))
  return
end

local authority <close> = certificates.authority "Moonloop example"
local server <close> = moonloop.start_server(function(stream)
  http.serve(stream, function(request)
    return {
      status = 200, headers = { "Content-Type: text/plain" },
      body = "you asked for " .. request.target .. "\n",
    }
  end)
end, "127.0.0.1", 0, { tls = moonloop.tls.server_context(authority:issue { name = "localhost" }) })

local trusting = moonloop.tls.client_context { ca_file = authority.file }
show(fetch(("https://localhost:%d/phases?month=11"):format(server:port()), trusting))

-- The system's authorities know nothing of ours.
moonloop.get_running_loop():set_exception_handler(function() end)
local ok, e = moonloop.pcall(fetch, ("https://localhost:%d/"):format(server:port()), true)
print(ok, e.kind, e.verify_message)

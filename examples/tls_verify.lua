-- SPDX-License-Identifier: MIT
-- What: each way in which a server's certificate can be wrong, and what the error says.
-- Why: verification is on by default, so one meets these. Each has its reason in words and its
--      number in `verify_code`.
-- Usage: moonloop examples/tls_verify.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

-- The server reports each failed handshake; here the client's side is what matters.
moonloop.get_running_loop():set_exception_handler(function() end)

local authority <close> = certificates.authority "Moonloop example"
local unknown <close> = certificates.authority "Somebody else"

local LOCAL = "DNS:localhost,IP:127.0.0.1"

local function issue(options)
  options.name = options.name or "localhost"
  options.san = options.san or LOCAL
  return (options.by or authority):issue(options)
end

local cases = {
  { "all is well", issue {} },
  { "expired", issue { from = "20200101000000Z", to = "20201231235959Z" } },
  { "not yet valid", issue { from = "20900101000000Z", to = "20901231235959Z" } },
  { "signed by itself", { cert = unknown.file, key = unknown.key } },
  { "unknown authority", issue { by = unknown } },
  { "another name", issue { name = "moon.example", san = "DNS:moon.example" } },
  { "another address", issue { san = "DNS:localhost,IP:192.0.2.1" }, host = "127.0.0.1" },
  { "a client's certificate", issue { purpose = "clientAuth" } },
}

local context = tls.client_context { ca_file = authority.file }

for _, case in ipairs(cases) do
  local server <close> = moonloop.start_server(function() end, "127.0.0.1", 0,
    { tls = tls.server_context(case[2]) })
  local ok, e = moonloop.pcall(moonloop.connect, case.host or "localhost", server:port(),
    { tls = context })
  print(case[1] .. ": " .. (ok and "connected" or e.kind .. " " .. e.verify_code))
  if ok then
    e:close()
  else
    print("  " .. e.message:gsub("(127%.0%.0%.1:)%d+", "%1PORT"))
  end
end

-- SPDX-License-Identifier: MIT
-- The system's authorities, which `tls = true` and contexts without `ca_file` and `ca_path`
-- verify by: where OpenSSL's variables say they are.
local certs = require "spec.support.certificates"
local script = require "spec.support.script"

-- A program that says how connecting to a server of its own by each of these ways ends.
local TALK = [[
local moonloop = require "moonloop"
local contexts = {
  ["true"] = true, client = moonloop.tls.client_context(),
  other = moonloop.tls.client_context { ca_file = %q },
}
local loop = moonloop.get_running_loop()
loop:set_exception_handler(function() end)
local server <close> = moonloop.start_server(function(stream) stream:write("hello") end,
  "127.0.0.1", 0, { tls = moonloop.tls.server_context { cert = %q, key = %q } })
for _, name in ipairs { "true", "client", "other", "true" } do
  local ok, err = pcall(function()
    local stream <close> = moonloop.connect("127.0.0.1", server:port(), { tls = contexts[name] })
    return stream:get_extra_info("tls").verified and stream:read()
  end)
  print(name, ok, ok and err or err.kind, ok or err.verify_code)
end
]]

local REFUSED, SERVED = "false\tCertificateError\t20\n", "true\thello\ttrue\n"

-- Runs it with those variables; the answer has to be that one for the system's authorities.
local function answers(expected, env)
  local all = { SSL_CERT_FILE = false, SSL_CERT_DIR = false }
  for name, value in pairs(env) do all[name] = value end
  local status, out, err = script.run(
    TALK:format(certs.other_ca, certs.server.cert, certs.server.key), { env = all })
  assert.equal("", err)
  assert.equal(0, status)
  assert.equal("true\t" .. expected .. "client\t" .. expected .. "other\t" .. REFUSED .. "true\t"
    .. expected, out)
end

describe("The system's authorities #slow", function()
  it("do not know one of our own", function()
    answers(REFUSED, {})
  end)

  it("are in the file that SSL_CERT_FILE names", function()
    answers(SERVED, { SSL_CERT_FILE = certs.ca })
    answers(REFUSED, { SSL_CERT_FILE = certs.client_ca })
  end)

  it("are in the hashed folder that SSL_CERT_DIR names", function()
    answers(SERVED, { SSL_CERT_DIR = certs.hashed })
  end)

  it("may be none at all", function()
    answers(REFUSED, { SSL_CERT_FILE = "/nowhere/x.pem", SSL_CERT_DIR = "/nowhere" })
  end)
end)

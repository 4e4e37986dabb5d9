-- SPDX-License-Identifier: MIT
-- What a program is told by a Moonloop that was built without TLS, and that the rest is there.
-- It is for `make TLS=0` alone, so no other run of the specs picks it up:
--   make specs TLS=0 BUILD=build/without_tls SPEC=spec/without_tls.lua
local moonloop = require "moonloop"
local command = require "spec.support.command"

local function refused(name, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_true(moonloop.is_error(err, "Error"))
  assert.equal(name .. ": Moonloop was built without TLS", err.message)
end

describe("A Moonloop without TLS", function()
  it("needs no OpenSSL", function()
    local _, libraries = command.run { "ldd", os.getenv "MOONLOOP" }
    assert.matches("libev", libraries)
    assert.is_nil(libraries:find("libssl", 1, true))
    assert.is_nil(libraries:find("libcrypto", 1, true))
  end)

  it("says so when a context is made", function()
    refused("client_context", moonloop.tls.client_context)
    refused("server_context", moonloop.tls.server_context, { cert = "cert.pem" })
  end)

  it("says so when one connects or listens", function()
    refused("connect", moonloop.connect, "127.0.0.1", 9, { tls = true })
    refused("open_connection", moonloop.open_connection, "127.0.0.1", 9, { tls = true })
    refused("connect_unix", moonloop.connect_unix, "/tmp/x", { tls = true })
    refused("start_server", moonloop.start_server, print, "127.0.0.1", 0, { tls = true })
    local loop = moonloop.get_running_loop()
    refused("create_connection", loop.create_connection, loop, function() return {} end,
      "127.0.0.1", 9, { tls = true })
    refused("create_server", loop.create_server, loop, function() return {} end, "127.0.0.1", 0,
      { tls = true })
  end)

  it("says so on a stream, which goes on", function()
    local a, b = moonloop.socketpair()
    local _ <close> = a
    local _ <close> = b
    refused("start_tls", a.start_tls, a, true)
    a:write("still here")
    assert.equal("still here", b:read(100))
    assert.is_nil(a:get_extra_info("tls"))
    assert.is_nil(a:get_extra_info("peercert"))
  end)

  it("connects and listens as ever where tls is false", function()
    local server <close> = moonloop.start_server(function(stream)
      stream:write(stream:readline())
    end, "127.0.0.1", 0, { tls = false })
    local stream <close> = moonloop.connect("127.0.0.1", server:port(), { tls = false })
    stream:write("plain\n")
    assert.equal("plain\n", stream:readline())
  end)
end)

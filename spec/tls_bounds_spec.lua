-- SPDX-License-Identifier: MIT
-- TLS where somebody goes too far: more handshakes than a server takes, names that are none, no
-- descriptor left, a context that has been finalised.
local certs = require "spec.support.certificates"
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local resolver = require "spec.support.resolver"
local script = require "spec.support.script"
local socket = require "socket"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- ---- crowds ------------------------------------------------------------------

local MOST, BURST = 1000, 4 -- handshakes at once

describe("Clients that come together beyond 1,000 handshakes", function()
  it("each end one other, which is reported once #load", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    local clients = {}
    for i = 1, MOST do clients[i] = moonloop.connect(tls.HOST, server:port()) end
    wait_all_blocked()
    assert.equal(0, #reports)
    local sockets = {}
    for i = 1, BURST do
      sockets[i] = socket.connect(tls.HOST, server:port()) -- before any is accepted
    end
    wait_all_blocked()
    assert.equal(BURST, #reports)
    for i = 1, BURST do
      local address = clients[i]:get_extra_info("sockname")
      assert.matches((":%d: given up"):format(address.port), reports[i].error.message, 1, true)
      assert.is_nil(clients[i]:read(1))
    end
    local still = tasks.start(clients[BURST + 1].read, clients[BURST + 1], 1)
    assert.is_false(still:done())
    tasks.cancel(still)
    for i = 1, MOST do clients[i]:abort() end
    for i = 1, BURST do sockets[i]:close() end
    wait_all_blocked()
    local stream <close> = tls.connect(server)
    tls.talk(stream)
    assert.equal(BURST, #reports)
  end)
end)

-- ---- names -------------------------------------------------------------------

local STAND_IN = "xxxxxx.example"

-- Has a client ask a server for a name, which need not be one. Awaits.
-- @return what the sni function was given; the server's error
local function asks_for(name)
  assert(#name == #STAND_IN)
  local wire <close> = link.wire()
  local given = {}
  local server = tls.server(nil, { sni = function(asked) given[#given + 1] = asked or "none" end })
  local ours = moonloop.create_task(wire.client.start_tls, wire.client, tls.client(),
    { server_hostname = STAND_IN })
  local theirs = moonloop.create_task(wire.peer.start_tls, wire.peer, server)
  local hello, count = link.record(wire.near):gsub(STAND_IN:gsub("%.", "%%."), name)
  assert.equal(1, count)
  wire.far:write(hello)
  wait_all_blocked()
  if not theirs:done() then wire.far:write("garbage, not TLS") end
  local err = net.raises("TLSError", theirs.await, theirs)
  tasks.cancel(ours)
  return given, err
end

describe("A name that a client asks for", function()
  it("is the sni function's, and stands in errors", function()
    local given, err = asks_for("second.example")
    assert.same({ "second.example" }, given)
    assert.matches("second.example", err.message, 1, true)
  end)

  for what, part in pairs {
    ["a newline"] = "\n", ["an escape"] = "\27", ["a zero byte"] = "\0", ["a blank"] = " ",
    ["a delete"] = "\127", ["a byte that is no ASCII"] = "\xe9",
  } do
    it("is nobody's, and not shown, with " .. what .. " in it", function()
      local name = "evil" .. part .. "r.example"
      local given, err = asks_for(name)
      assert.same({ "none" }, given)
      assert.is_nil(err.message:find(name, 1, true))
      assert.is_nil(err.message:find("[%c\127-\255]"))
    end)
  end
end)

-- ---- descriptors -------------------------------------------------------------

describe("A client with no descriptor left", function()
  it("says so where it can look for no authority", function()
    local status, out = resolver.run(([[
      local client = moonloop.tls.client_context { ca_path = %q }
      local server = moonloop.tls.server_context { cert = %q, key = %q }
      local one, other = moonloop.socketpair()
      local files = {}
      for file in function() return (io.open("/dev/null")) end do files[#files + 1] = file end
      local serving = moonloop.create_task(pcall, other.start_tls, other, server)
      local ok, err = pcall(one.start_tls, one, client, { server_hostname = "localhost" })
      print(ok, moonloop.is_error(err, "OSError") and err.code)
      for _, file in ipairs(files) do file:close() end
      serving:await()
    ]]):format(certs.hashed, certs.server.cert, certs.server.key),
      { limit = 40, env = { ASAN_OPTIONS = "detect_leaks=0" } })
    assert.equal("false\tEMFILE\n", out)
    assert.equal(0, status)
  end)
end)

-- ---- finalised contexts ------------------------------------------------------

local CONTEXTS = [[
local moonloop = require "moonloop"
local function client()
  return moonloop.tls.client_context { ca_file = %q }
end
local function server(sni)
  return moonloop.tls.server_context { cert = %q, key = %q, sni = sni }
end
local function kind(fn, ...)
  local ok, err = pcall(fn, ...)
  return ok and "no error" or moonloop.is_error(err) and err.kind or err
end
]]

-- Runs a program, which must end well. Awaits.
-- @return what it printed
local function run(source)
  local head = CONTEXTS:format(certs.ca, certs.server.cert, certs.server.key)
  local status, out, err = script.run(head .. source)
  assert.equal(0, status, err)
  return out
end

describe("A context that has been finalised", function()
  it("can be used no more", function()
    assert.equal(("InvalidStateError\n"):rep(5) .. "TLSError\nInvalidStateError\n", run [[
      local ours, theirs = client(), server()
      for _, context in ipairs { ours, theirs } do getmetatable(context).__gc(context) end
      print(kind(ours.reload, ours))
      print(kind(theirs.reload, theirs))
      local one, other = moonloop.socketpair()
      print(kind(one.start_tls, one, ours, { server_hostname = "localhost" }))
      print(kind(other.start_tls, other, theirs))
      print(kind(moonloop.start_server, function() end, "127.0.0.1", 0, { tls = theirs }))
      local near, far = moonloop.socketpair()
      local serving = moonloop.create_task(kind, far.start_tls, far,
        server(function() return theirs end))
      print(kind(near.start_tls, near, client(), { server_hostname = "localhost" }))
      print(serving:await())
      getmetatable(ours).__gc(ours)
      assert(tostring(ours):find("TLSContext", 1, true))
    ]])
  end)

  it("can be called from another finaliser at the end of the state", function()
    assert.equal("InvalidStateError\tTLSContext\n", run [[
      local late = setmetatable({}, { __gc = function()
        print(kind(context.reload, context), tostring(context):match("%a+"))
      end })
      context = client()
      keep = late
      assert(context:reload() == nil)
    ]])
  end)
end)

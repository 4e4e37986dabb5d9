-- SPDX-License-Identifier: MIT
-- TLS at the end of a run, of a program and of a Lua state: whatever is under way then ends
-- quietly and leaves nothing behind; what was written comes out, with close_notify where the
-- program ends in good order and without it where it does not.
local certs = require "spec.support.certificates"
local command = require "spec.support.command"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local script = require "spec.support.script"
local stock = require "spec.support.stock"
local tls = require "spec.support.tls"

-- What the pieces of PENDING are given.
local PRELUDE = [[
local moonloop = require "moonloop"
local loop = moonloop.get_event_loop()
local keep = {}
local client = moonloop.tls.client_context{ ca_file = %q }
local server = moonloop.tls.server_context{ cert = %q, key = %q }
local name = { server_hostname = "localhost" }
local function socketpair()
  local a, b = moonloop.socketpair()
  keep[#keep + 1] = a
  keep[#keep + 1] = b
  return a, b
end
local function pair()
  local a, b = socketpair()
  moonloop.gather(function() a:start_tls(client, name) end, function() b:start_tls(server) end)
  return a, b
end
local function full()
  local a, b = pair()
  while a:try_write(("x"):rep(65536)) do end
  return a, b
end
local function served(handler)
  local listening = moonloop.start_server(handler, "127.0.0.1", 0, { tls = server })
  keep[#keep + 1] = listening
  return listening:port()
end
local function connected()
  local port = served(moonloop.sleep_forever)
  return moonloop.connect("127.0.0.1", port, { tls = client, server_hostname = "localhost" })
end
]]

-- What can be under way: name -> a piece of code.
local PENDING = {
  ["a client's handshake"] = [[
    local a = socketpair()
    moonloop.create_task(a.start_tls, a, client, name)
  ]],
  ["a server's handshake"] = "local a = socketpair() moonloop.create_task(a.start_tls, a, server)",
  ["a handshake half done"] = [[
    local a, b = socketpair()
    moonloop.create_task(a.start_tls, a, client, name)
    moonloop.create_task(b.start_tls, b, server)
    moonloop.sleep(0)
  ]],
  ["a start_tls that waits for plain text to go out"] = [[
    local a = socketpair()
    while a:try_write(("x"):rep(65536)) do end
    moonloop.create_task(a.start_tls, a, client, name)
  ]],
  ["a connection that nobody uses"] = "pair()",
  ["a connection to a server"] = "keep[#keep + 1] = connected()",
  ["a connection that nobody holds"] = "connected()",
  ["a read"] = "local a = pair() moonloop.create_task(a.read, a)",
  ["a write that finds no room"] = "local a = full() moonloop.create_task(a.write, a, 'x')",
  ["a close that finds no room"] = "full():close()",
  ["a write_eof that finds no room"] = "full():write_eof()",
  ["a server whose clients are silent"] = [[
    local port = served(moonloop.sleep_forever)
    for i = 1, 3 do keep[#keep + 1] = moonloop.connect("127.0.0.1", port) end
    moonloop.testing.wait_all_blocked()
  ]],
  ["a connect to a silent server"] = [[
    local silent = moonloop.start_server(moonloop.sleep_forever, "127.0.0.1", 0)
    moonloop.create_task(moonloop.connect, "127.0.0.1", silent:port(), { tls = true })
    moonloop.testing.wait_all_blocked()
  ]],
  ["a relay"] = "moonloop.create_task(moonloop.relay, pair(), (pair()))",
  ["a transport"] = [[
    local port = served(moonloop.sleep_forever)
    local transport = loop:create_connection(function() return {} end, "127.0.0.1", port,
      { tls = client, server_hostname = "localhost" })
    transport:write(("x"):rep(10000000))
    keep[#keep + 1] = transport
  ]],
  ["a transport's handshake"] = [[
    local listening = loop:create_server(function() return {} end, "127.0.0.1", 0, { tls = server })
    keep[#keep + 1] = moonloop.connect("127.0.0.1", listening:port())
    moonloop.testing.wait_all_blocked()
  ]],
  ["a context that nobody uses"] = "keep[#keep + 1] = client",
}

local function source(body)
  return PRELUDE:format(certs.ca, certs.server.cert, certs.server.key) .. body
end

-- All of PENDING, one after the other.
local function everything()
  local parts = {}
  for name, body in pairs(PENDING) do
    parts[#parts + 1] = ("do -- %s\n%s\nend\n"):format(name, body)
  end
  return table.concat(parts)
end

describe("The end of a run", function()
  for name, body in pairs(PENDING) do
    it("ends " .. name .. " quietly, and leaves nothing of it", function()
      local reports <close> = tls.reports()
      local mark = moonloop.testing.mark()
      moonloop.run(assert(load(source(body))))
      moonloop.testing.wait_all_blocked()
      assert.same({}, moonloop.testing.leaks(mark))
      assert.same({}, { table.unpack(reports) })
    end)
  end

  it("brings out what was written to a stream, and close_notify", function()
    local text = net.text(1024 * 1024)
    local got = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      got:set_result(pcall(stream.read, stream))
    end, tls.HOST, 0, { tls = tls.server() })
    moonloop.run(function()
      local stream = tls.connect(server)
      stream:write(text)
    end)
    local ok, all = got:await()
    assert(ok, tostring(all))
    assert.is_true(all == text)
  end)

  it("aborts a transport that nobody has closed, which truncates", function()
    local got = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      stream:write("hello")
      got:set_result(pcall(stream.read, stream))
    end, tls.HOST, 0, { tls = tls.server() })
    moonloop.run(function()
      local came = moonloop.Future()
      local transport = moonloop.get_running_loop():create_connection(function()
        return { data_received = function() came:set_result() end }
      end, tls.HOST, server:port(), { tls = tls.client(), server_hostname = "localhost" })
      came:await()
      transport:write("part")
    end)
    local ok, err = got:await()
    assert.is_false(ok)
    assert.same({ "EOF", "part" }, { err.code, err.partial })
  end)
end)

-- Ways in which a program ends: code and the exit status.
local ENDINGS = {
  ["the end of the script"] = { "", 0 },
  ["moonloop.exit"] = { "moonloop.exit(3)", 3 },
  ["os.exit that closes the state"] = { "os.exit(4, true)", 4 },
  ["os.exit"] = { "os.exit(5)", 5 },
}

describe("A program with everything pending #slow", function()
  for name, ending in pairs(ENDINGS) do
    it("ends quietly by " .. name, function()
      local status, out, err = script.run(source(everything() .. ending[1]), { timeout = 60 })
      assert.same({ ending[2], "", "" }, { status, out, err })
    end)
  end

  it("tells of nothing but the error that ends it", function()
    local status, out, err = script.run(source(everything() .. "error('the reason', 0)"),
      { timeout = 60 })
    assert.same({ 1, "" }, { status, out })
    assert.matches("the reason", err, 1, true)
    assert.is_nil(err:find("[Tt][Ll][Ss]"))
    assert.is_nil(err:find("nobody awaited", 1, true))
  end)

  it("ends quietly in stock Lua, by the end of its run", function()
    local code = source("moonloop.run(function()\n" .. everything() .. "end) print('over')")
    assert.same({ 0, "over\n", "" }, { stock.lua(code) })
  end)

  it("ends quietly in stock Lua when the state is closed in the middle", function()
    local code = source("moonloop.run(function()\n" .. everything() .. "os.exit(6, true) end)")
    assert.same({ 6, "", "" }, { stock.lua(code) })
  end)

  it("ends quietly in stock Lua with a loop that is left standing", function()
    local code = source("loop:run_until_complete(function()\n" .. everything()
      .. "end) print('over')")
    assert.same({ 0, "over\n", "" }, { stock.lua(code) })
  end)
end)

describe("The peer of a program that has written something #slow", function()
  -- Runs a client that writes "last words" and ends, and gives what its server reads: ok, text or
  -- error. Awaits.
  local function read_from(ending)
    local got = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      stream:write("hello")
      got:set_result(pcall(stream.read, stream))
    end, tls.HOST, 0, { tls = tls.server() })
    local folder <close> = script.folder()
    local path = folder:write("client.lua", source(([[
      local stream = moonloop.connect("127.0.0.1", %d,
        { tls = client, server_hostname = "localhost" })
      stream:readexactly(5)
      stream:write("last words")
      %s
    ]]):format(server:port(), ending)))
    peers.run(command.line { script.binary, path })
    return got:await()
  end

  for name, ending in pairs {
    ["the script ends"] = "",
    ["moonloop.exit is called"] = "moonloop.exit(0)",
    ["an error ends it"] = "error('the reason')",
  } do
    it("reads all and the end when " .. name, function()
      assert.same({ true, "last words" }, { read_from(ending) })
    end)
  end

  for name, ending in pairs {
    ["os.exit is called"] = "os.exit(0)",
    ["the state is closed"] = "os.exit(0, true)",
    ["it is killed"] = "os.execute('kill -9 $PPID')",
  } do
    it("reads all and a truncation when " .. name, function()
      local ok, err = read_from(ending)
      assert.is_false(ok)
      assert.same({ "EOF", "last words" }, { err.code, err.partial })
    end)
  end
end)

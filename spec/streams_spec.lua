-- SPDX-License-Identifier: MIT
-- Getting a Stream: connect and open_connection, their options and what they
-- raise; what a Stream knows about its connection. Reading, writing and closing
-- are in streams_read_spec, streams_write_spec and streams_close_spec.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local tasks = require "spec.support.tasks"

-- A server on `host` that answers every connection with its peer's address, and
-- what to call to end it.
local function server_on(host, opts)
  local server = moonloop.start_server(function(stream)
    local name = stream:get_extra_info("peername")
    stream:write(name.host, "\n")
    stream:read()
  end, host, 0, opts)
  return server, function()
    server:close()
    server:wait_closed()
  end
end

describe("connect", function()
  it("gives one Stream", function()
    local server, finish = server_on("127.0.0.1")
    local stream = moonloop.connect("127.0.0.1", server:port())
    assert.equal("127.0.0.1\n", stream:readline())
    stream:close()
    finish()
  end)

  it("speaks IPv6", function()
    local server, finish = server_on("::1")
    local stream = moonloop.connect("::1", server:port())
    assert.equal("::1\n", stream:readline())
    assert.equal("::1", stream:get_extra_info("peername").host)
    assert.equal(server:port(), stream:get_extra_info("peername").port)
    stream:close()
    finish()
  end)

  it("finds localhost, whichever family the server has", function()
    for _, host in ipairs({ "127.0.0.1", "localhost" }) do
      local server, finish = server_on(host)
      local stream = moonloop.connect("localhost", server:port())
      assert.is_string(stream:readline())
      stream:close()
      finish()
    end
  end)

  it("obeys family", function()
    local server, finish = server_on("127.0.0.1")
    local stream = moonloop.connect("localhost", server:port(), { family = "inet" })
    assert.equal("127.0.0.1", stream:get_extra_info("peername").host)
    assert.equal("127.0.0.1\n", stream:readline())
    stream:close()
    assert.is_false((pcall(moonloop.connect, "127.0.0.1", server:port(), { family = "inet6" })))
    finish()
  end)

  it("begins at local_addr", function()
    local server, finish = server_on("127.0.0.1")
    local stream = moonloop.connect("127.0.0.1", server:port(),
      { local_addr = { host = "127.0.0.2", port = 0 } })
    assert.equal("127.0.0.2\n", stream:readline())
    assert.equal("127.0.0.2", stream:get_extra_info("sockname").host)
    stream:close()
    finish()
  end)

  it("tries a list of addresses in turn", function()
    local server, finish = server_on("127.0.0.1")
    local stream = moonloop.connect({ "127.0.0.2", "127.0.0.1" }, server:port())
    assert.equal("127.0.0.1", stream:get_extra_info("peername").host)
    assert.equal("127.0.0.1\n", stream:readline())
    stream:close()
    finish()
  end)

  it("raises ConnectionRefusedError in one line that says what was tried", function()
    local port = net.free_port()
    local err = net.raises("ConnectionRefusedError", moonloop.connect, "127.0.0.1", port)
    assert.equal(("ConnectionRefusedError: connect 127.0.0.1:%d: Connection refused"):format(port),
      tostring(err))
    assert.equal("ECONNREFUSED", err.code)
    assert.equal("number", type(err.errno))
    assert.is_true(moonloop.is_error(err, "ConnectionError"))
    assert.is_true(moonloop.is_error(err, "OSError"))
  end)

  it("raises the last error, with all of them, when every address fails", function()
    local port = net.free_port()
    local err = net.raises("ConnectionRefusedError", moonloop.connect,
      { "127.0.0.2", "127.0.0.3" }, port)
    assert.equal(2, #err.errors)
    assert.matches("127.0.0.3", tostring(err), 1, true)
    for _, one in ipairs(err.errors) do
      assert.is_true(moonloop.is_error(one, "ConnectionRefusedError"))
    end
  end)

  it("can be cancelled while it waits", function()
    local raw <close> = peers.raw()
    local port = math.tointeger(raw:ask("listen_full"))
    local task = tasks.start(moonloop.connect, "127.0.0.1", port)
    assert.is_false(task:done())
    assert.is_true(tasks.cancel(task))
  end)

  it("raises TimeoutError when its timeout passes", function()
    local raw <close> = peers.raw()
    local port = math.tointeger(raw:ask("listen_full"))
    net.raises("TimeoutError", moonloop.connect, "127.0.0.1", port, { timeout = 0.02 })
  end)

  it("leaves nothing behind when the task is cancelled before it ran", function()
    local server, finish = server_on("127.0.0.1")
    local task = moonloop.create_task(moonloop.connect, "127.0.0.1", server:port())
    assert.is_true(tasks.cancel(task))
    finish()
  end)

  it("refuses a port out of range", function()
    for _, port in ipairs({ -1, 65536, 1.5 }) do
      net.refuses("bad argument #2 to 'connect'", function()
        local _ = moonloop.connect("127.0.0.1", port)
      end)
    end
  end)

  it("refuses wrong types", function()
    net.refuses("bad argument #1 to 'connect'", function() local _ = moonloop.connect(nil, 80) end)
    net.refuses("bad argument #1 to 'connect'", function() local _ = moonloop.connect(true, 80) end)
    net.refuses("bad argument #2 to 'connect'", function()
      local _ = moonloop.connect("127.0.0.1", {})
    end)
    net.refuses("bad argument #2 to 'connect'", function()
      local _ = moonloop.connect("127.0.0.1")
    end)
    net.refuses("bad argument #3 to 'connect'", function()
      local _ = moonloop.connect("127.0.0.1", 80, "fast")
    end)
  end)

  it("names the option that does not exist and the nearest one that does", function()
    local ok, err = pcall(moonloop.connect, "127.0.0.1", 80, { timeuot = 1 })
    assert.is_false(ok)
    assert.matches("timeuot", tostring(err), 1, true)
    assert.matches("timeout", tostring(err), 1, true)
  end)
end)

describe("open_connection", function()
  it("gives the Stream twice", function()
    local server, finish = server_on("127.0.0.1")
    local reader, writer = moonloop.open_connection("127.0.0.1", server:port())
    assert.is_true(rawequal(reader, writer))
    writer:write("x")
    assert.equal("127.0.0.1\n", reader:readline())
    writer:close()
    finish()
  end)

  it("raises what connect raises", function()
    local port = net.free_port()
    net.raises("ConnectionRefusedError", moonloop.open_connection, "127.0.0.1", port)
    net.refuses("bad argument #2 to 'open_connection'", function()
      local _ = moonloop.open_connection("127.0.0.1", 70000)
    end)
  end)
end)

describe("Stream:get_extra_info", function()
  it("knows both addresses, as the other side knows them", function()
    local pair <close> = net.pair()
    local client, peer = pair.client, pair.peer
    local near, far = client:get_extra_info("sockname"), client:get_extra_info("peername")
    assert.equal("127.0.0.1", near.host)
    assert.same({ "127.0.0.1", pair.server:port() }, { far.host, far.port })
    local there = peer:get_extra_info("peername")
    assert.same({ near.host, near.port }, { there.host, there.port })
    assert.equal(far.port, peer:get_extra_info("sockname").port)
  end)

  it("still knows them when the peer has gone", function()
    local pair <close> = net.pair()
    pair.peer:close()
    assert.is_nil(pair.client:read(1))
    assert.equal(pair.server:port(), pair.client:get_extra_info("peername").port)
  end)

  it("gives nil for what it does not know", function()
    local pair <close> = net.pair()
    assert.is_nil(pair.client:get_extra_info("nosuch"))
    assert.is_nil(pair.client:get_extra_info("tls"))
  end)

  it("refuses a name that is no string", function()
    local pair <close> = net.pair()
    net.refuses("bad argument #1 to 'get_extra_info'", function()
      local _ = pair.client:get_extra_info({})
    end)
  end)
end)

describe("A task that reads", function()
  it("says so in awaiting()", function()
    local pair <close> = net.pair()
    local task = tasks.start(function() return pair.client:read(1) end)
    local port = pair.server:port()
    assert.equal("read tcp 127.0.0.1:" .. port, task:awaiting())
    tasks.cancel(task)
  end)
end)

describe("Two tasks on one Stream", function()
  it("read and write at the same time", function()
    local pair <close> = net.pair()
    local text = net.text(8 * 1024 * 1024)
    local echo = moonloop.create_task(function()
      for data in function() return pair.peer:read(65536) end do pair.peer:write(data) end
      pair.peer:write_eof()
    end)
    local writer = moonloop.create_task(function()
      pair.client:write(text)
      pair.client:write_eof()
    end)
    assert.is_true(pair.client:read() == text)
    writer:await()
    echo:await()
  end)

  it("can be a task and another that closes it when the first is done with it", function()
    local pair <close> = net.pair()
    local reader = tasks.start(function()
      local data = pair.client:read()
      pair.client:close()
      return data
    end)
    pair.peer:write("all")
    pair.peer:close()
    assert.equal("all", reader:await())
    pair.client:wait_closed()
    assert.is_true(pair.client:is_closing())
  end)
end)

describe("A Stream in an inner coroutine", function()
  it("is read by a generator that awaits", function()
    local pair <close> = net.pair()
    local function numbers(stream)
      return coroutine.wrap(function()
        for line in stream:lines() do coroutine.yield(tonumber(line)) end
      end)
    end
    local sum = tasks.start(function()
      local total = 0
      for number in numbers(pair.client) do total = total + number end
      return total
    end)
    net.trickle(pair.peer, "1\n20\n300\n4000", 2)
    pair.peer:write_eof()
    assert.equal(4321, sum:await())
  end)
end)

describe("connect with what only looks like an address", function()
  it("is a DNSError, not a bad argument of something inside", function()
    for _, host in ipairs { "127.0.0.01", "1:2", "fe80::1%nosuch" } do
      net.raises("DNSError", moonloop.connect, host, 80)
    end
  end)

  it("refuses a local address that is none", function()
    for _, addr in ipairs { { host = 1 }, { port = "x" }, { port = 700000 }, { hots = "::1" } } do
      local ok, err = pcall(moonloop.connect, "127.0.0.1", 80, { local_addr = addr })
      assert.is_false(ok)
      assert.matches("^.*bad argument #3 to", tostring(err))
    end
  end)
end)

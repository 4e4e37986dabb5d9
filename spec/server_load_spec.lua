-- SPDX-License-Identifier: MIT
-- Servers with many clients: a thousand connections at once, one client that
-- never reads beside many that do, and ten thousand that do nothing.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

local function echo(stream)
  for data in function() return stream:read(65536) end do stream:write(data) end
end

-- Runs `fn(i)` for 1 to `count` in tasks side by side, and awaits them all.
local function side_by_side(count, fn)
  local all = {}
  for i = 1, count do all[i] = moonloop.create_task(fn, i) end
  for i = 1, count do all[i]:await() end
end

describe("A server", function()
  it("serves 1000 connections that come at once #load", function()
    local server <close> = moonloop.start_server(echo, "127.0.0.1", 0)
    local answered = 0
    side_by_side(1000, function(i)
      local stream <close> = moonloop.connect("127.0.0.1", server:port())
      for round = 1, 3 do
        local text = ("client %d round %d\n"):format(i, round)
        stream:write(text)
        assert(stream:readline() == text)
      end
      answered = answered + 1
    end)
    assert.equal(1000, answered)
  end)

  it("has 1000 connections open at the same time #load", function()
    local open, most = 0, 0
    local server <close> = moonloop.start_server(function(stream)
      open = open + 1
      most = math.max(most, open)
      stream:read()
      open = open - 1
    end, "127.0.0.1", 0)
    local clients = {}
    side_by_side(1000, function(i)
      clients[i] = moonloop.connect("127.0.0.1", server:port())
    end)
    moonloop.testing.wait_all_blocked()
    assert.equal(1000, most)
    for i = 1, 1000 do clients[i]:close() end
    server:close()
    server:wait_closed()
    assert.equal(0, open)
  end)

  it("keeps answering 200 clients while one never reads", function()
    local reports <close> = tasks.reports()
    local server <close> = moonloop.start_server(echo, "127.0.0.1", 0)
    local stuck = moonloop.connect("127.0.0.1", server:port())
    net.fill(stuck)
    local stuck_writer = tasks.start(function() stuck:write("never taken") end)
    assert.is_false(stuck_writer:done())
    local answered = 0
    side_by_side(200, function(i)
      local stream <close> = moonloop.connect("127.0.0.1", server:port())
      for round = 1, 10 do
        local text = ("client %d round %d\n"):format(i, round)
        stream:write(text)
        assert(stream:readline() == text)
        answered = answered + 1
      end
    end)
    assert.equal(2000, answered)
    assert.is_false(stuck_writer:done())
    stuck:abort()
    net.raises("InvalidStateError", stuck_writer.await, stuck_writer)
    server:close()
    server:wait_closed()
    assert.equal(1, #reports)
    assert.is_true(moonloop.is_error(reports[1].error, "ConnectionError"))
  end)
end)

describe("Two processes", function()
  local SERVER = [[
    local moonloop = require "moonloop"
    local most, open = 0, 0
    local server <close> = moonloop.start_server(function(stream)
      open = open + 1
      most = math.max(most, open)
      for data in function() return stream:read(100) end do
        stream:write(data == "most" and tostring(most) or data)
      end
      open = open - 1
    end, "127.0.0.1", 0)
    io.stdout:setvbuf("no")
    print(server:port())
    server:serve_forever()
  ]]

  local CLIENT = [[
    local moonloop = require "moonloop"
    local port = math.tointeger(io.read("n"))
    local streams, left = {}, 10000
    local function connect_some()
      while left > 0 do
        left = left - 1
        local stream = moonloop.connect("127.0.0.1", port)
        streams[#streams + 1] = stream
      end
    end
    local tasks = {}
    for i = 1, 100 do tasks[i] = moonloop.create_task(connect_some) end
    for i = 1, 100 do tasks[i]:await() end
    local answers = 0
    for i = 1, #streams do
      streams[i]:write("x")
      if streams[i]:read(1) == "x" then answers = answers + 1 end
    end
    streams[1]:write("most")
    print(#streams, answers, streams[1]:read(10))
    for i = 1, #streams do streams[i]:close() end
  ]]

  it("hold 10,000 connections between them #load", function()
    local folder <close> = script.folder()
    folder:write("server.lua", SERVER)
    folder:write("client.lua", CLIENT)
    local status, out, err = folder:shell([[
      ulimit -n 20000 || exit 77
      mkfifo port
      "$MOONLOOP" server.lua >port 2>server.err & server=$!
      "$MOONLOOP" client.lua <port
      status=$?
      kill $server
      wait $server
      cat server.err >&2
      exit $status
    ]], { timeout = 120 })
    if status == 77 then return pending("the descriptor limit is too low") end
    assert.equal("10000\t10000\t10000\n", out)
    assert.equal(0, status, err)
  end)
end)

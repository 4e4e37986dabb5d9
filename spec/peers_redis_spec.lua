-- SPDX-License-Identifier: MIT
-- Streams beside Redis: redis-benchmark and redis-cli talk to a server of its protocol written on
-- Streams (support/resp_server.lua), and a client written on Streams talks to redis-server.
local background = require "spec.support.background"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local resp_server = require "spec.support.resp_server"
local script = require "spec.support.script"

-- Pends the spec unless all these programs are there.
local function need(...)
  local missing = programs.missing(...)
  if missing then pending(missing .. " is not installed") end
end

-- Our server on a free port. Awaits.
local function start()
  local redis = resp_server.new()
  return redis, moonloop.start_server(redis.handle, "127.0.0.1", 0)
end

-- Runs redis-benchmark for those tests and gives the set of those that it tells a figure of.
local function benchmark(server, flags)
  local status, out = peers.run(("exec redis-benchmark -p %d -q %s"):format(server:port(), flags))
  assert.equal(0, status, out)
  local told = {}
  for name, figure in out:gmatch("([%w_]+): ([%d.]+) requests per second") do
    told[name] = tonumber(figure) > 0
  end
  return told
end

local FOUR = { PING_INLINE = true, PING_MBULK = true, SET = true, GET = true }

describe("redis-benchmark", function()
  it("completes SET, GET and PING with 16 in a pipeline #load", function()
    need("redis-benchmark")
    local redis, server = start()
    local _ <close> = server
    assert.same(FOUR, benchmark(server, "-t set,get,ping -n 20000 -c 50 -P 16"))
    assert.is_true(redis.count >= 80000)
  end)

  it("completes SET, GET and PING one at a time #load", function()
    need("redis-benchmark")
    local redis, server = start()
    local _ <close> = server
    assert.same(FOUR, benchmark(server, "-t set,get,ping -n 20000 -c 50"))
    assert.is_true(redis.count >= 80000)
  end)

  it("completes its list tests, and INCR", function()
    need("redis-benchmark")
    local redis, server = start()
    local _ <close> = server
    local told = benchmark(server, "-t incr,lpush,rpush,lpop -n 480 -c 10 -P 8")
    assert.same({ INCR = true, LPUSH = true, RPUSH = true, LPOP = true }, told)
    assert.is_true(math.tointeger(tonumber(redis.values["counter:__rand_int__"])) >= 480)
  end)

  it("completes SET and GET of 100 KiB", function()
    need("redis-benchmark")
    local redis, server = start()
    local _ <close> = server
    local told = benchmark(server, "-t set,get -n 40 -c 5 -P 2 -d 102400")
    assert.same({ SET = true, GET = true }, told)
    assert.equal(102400, #redis.values["key:__rand_int__"])
  end)
end)

describe("redis-cli", function()
  -- The lines that redis-cli prints for those commands, a line each.
  local function answers(server, folder, commands)
    folder:write("commands", table.concat(commands, "\n") .. "\n")
    local status, out = peers.run(("exec redis-cli -p %d <%s/commands"):format(server:port(),
      folder.path))
    assert.equal(0, status, out)
    local lines = {}
    for line in out:gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
    return lines
  end

  it("gets an answer to each of its commands", function()
    need("redis-cli")
    local folder <close> = script.folder()
    local _, server = start()
    local _ <close> = server
    assert.same({ "PONG", "OK", "two words", "1", "3", "3", "c", "" },
      answers(server, folder, { "PING", 'SET key "two words"', "GET key", "INCR count",
        "RPUSH list a b c", "LPUSH other a b c", "LPOP other", "GET nothing" }))
  end)

  it("is told of a command that does not exist and of a wrong type", function()
    need("redis-cli")
    local folder <close> = script.folder()
    local _, server = start()
    local _ <close> = server
    local lines = answers(server, folder, { "NOSUCH a", "RPUSH list a", "GET list", "GET" })
    local text = table.concat(lines, "\n")
    assert.matches("ERR unknown command 'NOSUCH'", text, 1, true)
    assert.matches("WRONGTYPE", text, 1, true)
    assert.matches("ERR wrong number of arguments for 'get' command", text, 1, true)
  end)

  it("loads 5000 keys through its pipe", function()
    need("redis-cli")
    local folder <close> = script.folder()
    local redis, server = start()
    local _ <close> = server
    local lines = {}
    for i = 1, 5000 do
      local value = ("%d"):format(i):rep(i % 7)
      lines[i] = ("*3\r\n$3\r\nSET\r\n$5\r\n%05d\r\n$%d\r\n%s\r\n"):format(i, #value, value)
    end
    folder:write("keys", table.concat(lines))
    local status, out = peers.run(("exec redis-cli -p %d --pipe <%s/keys"):format(server:port(),
      folder.path))
    assert.equal(0, status, out)
    assert.matches("errors: 0, replies: 5000", out, 1, true)
    assert.equal(("5000"):rep(5000 % 7), redis.values["05000"])
    assert.equal(5001, redis.count) -- its last one is an ECHO
  end)

  it("talks over a Unix socket", function()
    need("redis-cli")
    local folder <close> = script.folder()
    local redis = resp_server.new()
    local path = folder.path .. "/socket"
    local server <close> = moonloop.start_unix_server(redis.handle, path)
    local status, out = peers.run("exec redis-cli -s " .. path .. " ECHO across")
    assert.equal("across\n", out)
    assert.equal(0, status)
    assert.is_true(server:is_serving())
  end)
end)

describe("The server of Redis commands", function()
  it("answers inline commands and ends after QUIT", function()
    local _, server = start()
    local _ <close> = server
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    stream:write("SET a 1\r\n\r\n  PING  x \nQUIT\r\nPING\r\n")
    assert.equal("+OK\r\n$1\r\nx\r\n+OK\r\n", stream:read())
  end)

  it("answers what is whole while the rest of the pipeline is on its way", function()
    local _, server = start()
    local _ <close> = server
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    stream:write("*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nEC")
    assert.equal("+PONG\r\n", stream:readline())
    stream:write("HO\r\n$3\r\na\rb\r\n")
    assert.equal("$3\r\na\rb\r\n", stream:readexactly(9))
  end)

  it("tells a client that breaks the protocol and leaves it", function()
    local _, server = start()
    local _ <close> = server
    for _, text in ipairs { "*1\r\nPING\r\n", "*x\r\n", "*99999\r\n", "*1\r\n$-5\r\n" } do
      local stream <close> = moonloop.connect("127.0.0.1", server:port())
      stream:write(text)
      assert.matches("^%-ERR Protocol error", stream:read())
    end
  end)
end)

describe("redis-server", function()
  -- Writes commands, each a list of words, in one piece.
  local function send(stream, ...)
    local parts = {}
    for _, words in ipairs { ... } do
      parts[#parts + 1] = ("*%d\r\n"):format(#words)
      for _, word in ipairs(words) do parts[#parts + 1] = ("$%d\r\n%s\r\n"):format(#word, word) end
    end
    stream:write(table.concat(parts))
  end

  -- The next answer: text, a number, a list, nil; an error is raised.
  local function receive(stream)
    local kind, rest = stream:readline():match("^([%+%-:$*])(.*)\r\n$")
    if kind == "+" then return rest end
    if kind == "-" then error(rest, 0) end
    local number = math.tointeger(tonumber(rest))
    if kind == ":" then return number end
    if number < 0 then return nil end
    if kind == "$" then return stream:readexactly(number + 2):sub(1, -3) end
    local list = {}
    for i = 1, number do list[i] = receive(stream) end
    return list
  end

  local function ask(stream, ...)
    send(stream, { ... })
    return receive(stream)
  end

  -- A redis-server that keeps nothing, on that port and Unix socket. Awaits.
  local function start_redis(folder, port)
    return background.start({ "redis-server", "--bind", "127.0.0.1", "--port", tostring(port),
      "--unixsocket", folder.path .. "/socket", "--dir", folder.path, "--save", "",
      "--appendonly", "no" }, "Ready to accept connections")
  end

  local function by_tcp(_, port)
    return moonloop.connect("127.0.0.1", port)
  end

  local function by_unix(folder)
    return moonloop.connect_unix(folder.path .. "/socket")
  end

  for way, connect in pairs({ ["a TCP port"] = by_tcp, ["a Unix socket"] = by_unix }) do
    it("answers our client on " .. way, function()
      need("redis-server")
      local folder <close> = script.folder()
      local port = net.free_port()
      local _ <close> = start_redis(folder, port)
      local stream <close> = connect(folder, port)
      assert.equal("PONG", ask(stream, "PING"))
      assert.equal("OK", ask(stream, "SET", "key", "line\r\nline\0end"))
      assert.equal("line\r\nline\0end", ask(stream, "GET", "key"))
      assert.is_nil(ask(stream, "GET", "nothing"))
      assert.equal(3, ask(stream, "RPUSH", "list", "a", "b", "c"))
      assert.same({ "a", "b", "c" }, ask(stream, "LRANGE", "list", "0", "-1"))
      assert.matches("WRONGTYPE", tostring(select(2, pcall(ask, stream, "INCR", "list"))), 1, true)
      assert.equal("OK", ask(stream, "QUIT"))
      assert.is_nil(stream:read(1))
    end)

    it("answers 2000 pipelined commands of ten clients on " .. way, function()
      need("redis-server")
      local folder <close> = script.folder()
      local port = net.free_port()
      local _ <close> = start_redis(folder, port)
      moonloop.task_group(function(group)
        for client = 1, 10 do
          group:create_task(function()
            local stream <close> = connect(folder, port)
            local batch = {}
            for i = 1, 200 do batch[i] = { "INCRBY", "count:" .. client, tostring(i) } end
            send(stream, table.unpack(batch))
            for i = 1, 200 do assert(receive(stream) == i * (i + 1) // 2) end
          end)
        end
      end)
      local stream <close> = connect(folder, port)
      for client = 1, 10 do assert.equal("20100", ask(stream, "GET", "count:" .. client)) end
    end)
  end

  it("hands a value of 16 MiB to our client and back", function()
    need("redis-server")
    local folder <close> = script.folder()
    local port = net.free_port()
    local _ <close> = start_redis(folder, port)
    local stream <close> = by_tcp(folder, port)
    local value = net.text(16 * 1024 * 1024)
    assert.equal("OK", ask(stream, "SET", "big", value))
    assert.is_true(ask(stream, "GET", "big") == value)
  end)

  it("publishes to a subscriber while another connection is used", function()
    need("redis-server")
    local folder <close> = script.folder()
    local port = net.free_port()
    local _ <close> = start_redis(folder, port)
    local subscriber <close> = by_unix(folder)
    assert.same({ "subscribe", "news", 1 }, ask(subscriber, "SUBSCRIBE", "news"))
    local heard = {}
    local listener = moonloop.create_task(function()
      for i = 1, 3 do heard[i] = receive(subscriber)[3] end
    end)
    local publisher <close> = by_tcp(folder, port)
    for i = 1, 3 do assert.equal(1, ask(publisher, "PUBLISH", "news", "item " .. i)) end
    listener:await()
    assert.same({ "item 1", "item 2", "item 3" }, heard)
  end)
end)

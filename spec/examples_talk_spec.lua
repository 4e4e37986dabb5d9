-- SPDX-License-Identifier: MIT
-- The larger examples that talk over streams do what they say: the chat, the port forwarder, and
-- the client for Redis, which talks to a real redis-server.
local moonloop = require "moonloop"
local background = require "spec.support.background"
local command = require "spec.support.command"
local net = require "spec.support.net"
local programs = require "spec.support.programs"
local script = require "spec.support.script"

local function example(name)
  return script.root .. "/examples/" .. name .. ".lua"
end

local function connect(server)
  return moonloop.connect("127.0.0.1", math.tointeger(server.found), { timeout = 20 })
end

-- ---- the chat ----------------------------------------------------------------

-- A shell takes the place of Ctrl-C's terminal: in its background jobs SIGINT would be ignored.
local START = 'echo "pid $$"; exec env --default-signal=INT "$0" "$1" 127.0.0.1 0'

local function start_chat()
  return background.start({ "/bin/sh", "-c", START, script.binary, example "chat_server" },
    "listening on 127.0.0.1 port (%d+)\n")
end

local function interrupt(server)
  local pid = server:output():match("pid (%d+)")
  command.run { "kill", "-INT", pid }
  return pid
end

local function wait_for_end(pid)
  assert.equal(0, (command.run { "tail", "--pid=" .. pid, "-s", "0.05", "-f", "/dev/null" }))
end

-- A visitor who has given that name, and read all that was said to it so far.
local function enter(server, name)
  local stream = connect(server)
  assert.equal("* your name?\n", stream:readline())
  stream:write(name, "\n")
  assert.matches("^%* welcome; here: .*" .. name, stream:readline())
  return stream
end

describe("examples/chat_server", function()
  it("tells everybody else what one says", function()
    local server <close> = start_chat()
    local rhea <close> = enter(server, "Rhea")
    local luna <close> = enter(server, "Luna")
    assert.equal("* Luna is here\n", rhea:readline())
    luna:write("good evening\n")
    rhea:write("hello Luna\n")
    assert.equal("<Luna> good evening\n", rhea:readline())
    assert.equal("<Rhea> hello Luna\n", luna:readline())
  end)

  it("asks again for a name that is taken, or no name", function()
    local server <close> = start_chat()
    local luna <close> = enter(server, "Luna")
    local other <close> = connect(server)
    other:write("Luna\n", "a b\n", "Rhea\n")
    assert.equal("* your name?\n", other:readline())
    assert.matches("somebody has that name", other:readline())
    assert.matches("letters and digits", other:readline())
    assert.equal("* welcome; here: Luna, Rhea\n", other:readline())
    assert.equal("* Rhea is here\n", luna:readline())
  end)

  it("tells who is here and who has left", function()
    local server <close> = start_chat()
    local luna <close> = enter(server, "Luna")
    local rhea <close> = enter(server, "Rhea")
    rhea:write("/who\n", "/quit\n")
    assert.equal("* here: Luna, Rhea\n", rhea:readline())
    assert.equal("", rhea:read())
    assert.equal("* Rhea is here\n", luna:readline())
    assert.equal("* Rhea has left\n", luna:readline())
  end)

  it("goes on when one is reset, or sends an endless line", function()
    local server <close> = start_chat()
    local luna <close> = enter(server, "Luna")
    local reset = enter(server, "Rhea")
    reset:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
    reset:abort()
    assert.equal("* Rhea is here\n", luna:readline())
    assert.equal("* Rhea has left\n", luna:readline())
    local endless <close> = enter(server, "Titan")
    endless:write(("x"):rep(100000))
    assert.equal("* Titan is here\n", luna:readline())
    assert.equal("* Titan has left\n", luna:readline())
    assert.is_nil(server:output():find("Error", 1, true))
  end)

  it("drops one who does not read, and holds up nobody else", function()
    local server <close> = start_chat()
    local luna <close> = enter(server, "Luna")
    local deaf <close> = enter(server, "Deaf") -- and never reads
    deaf:get_extra_info("socket"):setsockopt("SO_RCVBUF", 10000)
    assert.equal("* Deaf is here\n", luna:readline())
    local rhea <close> = enter(server, "Rhea")
    assert.equal("* Rhea is here\n", luna:readline())
    local gone = false
    for _ = 1, 1000 do
      rhea:write((("blah "):rep(190) .. "\n"):rep(50))
      for _ = 1, 50 do
        local line = luna:readline()
        if line == "* Deaf has left\n" then
          gone, line = true, luna:readline()
        end
        assert.equal("<Rhea> blah ", line:sub(1, 12))
      end
      if gone then break end
    end
    assert.is_true(gone)
  end)

  it("says goodbye after Ctrl-C, and lets everybody leave", function()
    local server <close> = start_chat()
    local luna = enter(server, "Luna")
    local rhea = enter(server, "Rhea")
    assert.equal("* Rhea is here\n", luna:readline())
    local pid = interrupt(server)
    assert.equal("* the server ends, goodbye\n", luna:read())
    assert.equal("* the server ends, goodbye\n", rhea:read())
    luna:close()
    rhea:close()
    wait_for_end(pid)
    assert.matches("\n2 left, 0 had to\n", server:output(), 1, true)
  end)
end)

describe("examples/chat_client", function()
  -- The client runs in the background, since the server's side is the spec's own.
  local function start_client(server, input)
    local line = '{ printf "$1"; sleep 20; } | "$0" "$2" 127.0.0.1 "$3"'
    return background.start({ "/bin/sh", "-c", line, script.binary, input,
      example "chat_client", server.found }, "(welcome[^\n]*)\n")
  end

  it("shows what is said while it waits for its keyboard", function()
    local server <close> = start_chat()
    local client <close> = start_client(server, "Rhea\\nhow do you do\\n")
    assert.equal("welcome; here: Rhea", client.found)
    local luna <close> = enter(server, "Luna")
    luna:write("/quit\n")
    assert.equal("", luna:read())
  end)

  it("ends when its input ends and the server has closed", function()
    local server <close> = start_chat()
    local status, out, err = command.run({ script.binary, example "chat_client", "127.0.0.1",
      server.found }, { stdin = "Rhea\n/who\n" })
    assert.equal("", err)
    assert.equal("* your name?\n* welcome; here: Rhea\n* here: Rhea\n", out)
    assert.equal(0, status)
  end)
end)

-- ---- the port forwarder --------------------------------------------------------

local function forward_to(target)
  return background.start({ script.binary, example "port_forwarder", "127.0.0.1:0", target },
    "forwarding port (%d+) to")
end

describe("examples/port_forwarder", function()
  it("passes both directions on, and the half-close", function()
    local server <close> = moonloop.start_server(function(stream)
      stream:write("you said ", stream:read())
    end, "127.0.0.1", 0)
    local forwarder <close> = forward_to("127.0.0.1:" .. server:port())
    local stream <close> = connect(forwarder)
    stream:write("hello")
    stream:write_eof()
    assert.equal("you said hello", stream:read())
  end)

  it("carries a megabyte each way at the same time", function()
    local text = net.text(1000000)
    local server <close> = moonloop.start_server(function(stream)
      for piece in stream:chunks() do stream:write(piece) end
    end, "127.0.0.1", 0)
    local forwarder <close> = forward_to("127.0.0.1:" .. server:port())
    local stream <close> = connect(forwarder)
    local back = moonloop.gather(
      function() return stream:read() end,
      function()
        stream:write(text)
        stream:write_eof()
      end)
    assert.is_true(back == text)
  end)

  it("forwards to a Unix socket", function()
    local folder <close> = script.folder()
    local path = folder.path .. "/socket"
    local server <close> = moonloop.start_unix_server(function(stream)
      stream:write("by a path\n")
    end, path)
    assert.equal(path, server:sockets()[1].path)
    local forwarder <close> = forward_to(path)
    local stream <close> = connect(forwarder)
    assert.equal("by a path\n", stream:read())
  end)

  it("tells why it cannot connect, and goes on", function()
    local port = net.free_port()
    local forwarder <close> = forward_to("127.0.0.1:" .. port)
    for _ = 1, 2 do
      local stream <close> = connect(forwarder)
      local ok, data = pcall(stream.read, stream)
      assert.is_true(not ok or data == "")
    end
    local _, count = forwarder:output():gsub("ConnectionRefusedError: connect 127.0.0.1:" .. port,
      "")
    assert.equal(2, count)
  end)

  it("refuses what it does not understand, with its usage", function()
    for _, words in ipairs { {}, { "8080" }, { "8080", "nowhere" }, { "web", "127.0.0.1:80" } } do
      local status, out, err = command.run { script.binary, example "port_forwarder",
        table.unpack(words) }
      assert.equal(2, status)
      assert.equal("", out)
      assert.matches("usage: port_forwarder.lua", err, 1, true)
    end
  end)
end)

-- ---- the client for Redis --------------------------------------------------------

describe("examples/redis_client with redis-server", function()
  local server, folder

  setup(function()
    if programs.missing("redis-server") then return end
    folder = script.folder()
    local port = net.free_port()
    server = background.start({ "redis-server", "--bind", "127.0.0.1", "--port", tostring(port),
      "--unixsocket", folder.path .. "/redis", "--save", "", "--dir", folder.path },
      "Ready to accept connections")
    server.port = port
  end)

  before_each(function()
    if not server then pending("redis-server is not installed") end
  end)

  teardown(function()
    if not server then return end
    local _ <close> = folder
    local _ <close> = server
  end)

  local function client(words, input)
    return command.run({ script.binary, example "redis_client", "127.0.0.1:" .. server.port,
      table.unpack(words or {}) }, { stdin = input })
  end

  it("sends a command of the command line and shows its reply", function()
    local status, out, err = client { "set", "moon", "full and bright" }
    assert.equal("", err)
    assert.equal("OK\n", out)
    assert.equal(0, status)
    assert.equal('"full and bright"\n', select(2, client { "get", "moon" }))
  end)

  it("shows every kind of reply", function()
    local _, out = client(nil, table.concat({
      "rpush list one two", "incr counter", "lrange list 0 -1", "get nothing", "lrange none 0 1",
      'eval "return {1,{2,false}}" 0', "incr list",
    }, "\n"))
    assert.equal(table.concat({
      "(integer) 2", "(integer) 1", '1) "one"', '2) "two"', "(nil)", "(empty list)",
      "1) (integer) 1", "2) 1) (integer) 2", "   2) (nil)",
      "(error) WRONGTYPE Operation against a key holding the wrong kind of value", "",
    }, "\n"), out)
  end)

  it("sends ten thousand commands and shows the replies in order", function()
    local lines, replies = {}, {}
    for i = 1, 10000 do
      lines[i] = "echo " .. i
      replies[i] = ('"%d"\n'):format(i)
    end
    local _, out = client(nil, table.concat(lines, "\n"))
    assert.is_true(out == table.concat(replies))
  end)

  it("connects by a Unix socket", function()
    local _, out = command.run { script.binary, example "redis_client", folder.path .. "/redis",
      "ping" }
    assert.equal('"PONG"\n', out)
  end)

  it("ends with a clear message when the server goes away", function()
    local status, out, err = client(nil, "ping\nclient kill type normal skipme no\nping\n")
    assert.equal(1, status)
    assert.matches('"PONG"\n', out, 1, true)
    assert.matches("the server has closed the connection", err, 1, true)
  end)
end)

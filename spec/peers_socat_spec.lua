-- SPDX-License-Identifier: MIT
-- Streams and datagrams beside socat, which speaks to anything: Unix and abstract sockets,
-- programs behind a socket, pseudo-terminals, and our own standard streams as each of these.
local background = require "spec.support.background"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local script = require "spec.support.script"

-- Pends the spec unless all these programs are there.
local function need(...)
  local missing = programs.missing(...)
  if missing then pending(missing .. " is not installed") end
end

local function echo(stream)
  for data in function() return stream:read(65536) end do stream:write(data) end
end

-- Starts socat and waits until it listens. Awaits.
local function listening(from, to)
  return background.start({ "socat", "-d", "-d", "-t", "30", from, to }, "listening on")
end

-- A name in the abstract namespace that nobody else has.
local function abstract_name()
  return ("moonloop-spec-%d"):format(net.free_port())
end

describe("socat as a client of a Unix server", function()
  -- What socat gets back for `text`, sent through that address. Awaits.
  local function round_trip(address, text)
    local folder <close> = script.folder()
    folder:write("input", text)
    local status, out = peers.run(("exec socat -t 30 STDIO %s <%s/input"):format(address,
      folder.path))
    assert.equal(0, status, out)
    return out
  end

  it("sends its input through a path, half-closes and gets all of it back", function()
    need("socat")
    local folder <close> = script.folder()
    local text, path = net.text(1024 * 1024), folder.path .. "/socket"
    local server <close> = moonloop.start_unix_server(echo, path)
    assert.is_true(round_trip("UNIX-CONNECT:" .. path, text) == text)
    assert.is_true(server:is_serving())
  end)

  it("does so through an abstract name", function()
    need("socat")
    local text, name = net.text(1024 * 1024), abstract_name()
    local server <close> = moonloop.start_unix_server(echo, "\0" .. name)
    assert.is_true(round_trip("ABSTRACT-CONNECT:" .. name, text) == text)
    assert.is_true(server:is_serving())
  end)

  it("is known by its process and user", function()
    need("socat")
    local folder <close> = script.folder()
    local path, who = folder.path .. "/socket", nil
    local server <close> = moonloop.start_unix_server(function(stream)
      who = stream:get_extra_info("peercred")
      stream:write(tostring(who.pid))
    end, path)
    local _, out = peers.run(("socat -u UNIX-CONNECT:%s STDOUT & echo $!; wait"):format(path))
    local started, told = out:match("^(%d+)\n(%d+)$")
    assert.equal(started, told)
    local _, user = peers.run("echo $(id -u) $(id -g)")
    assert.equal(user, ("%d %d\n"):format(who.uid, who.gid))
    assert.is_true(server:is_serving())
  end)
end)

describe("socat as a server", function()
  -- Sends words to a socat that puts all it gets through `tr`, and half-closes. Awaits.
  local function capitals(stream)
    for i = 1, 1000 do stream:write("word ", i, "\n") end
    stream:write_eof()
    for i = 1, 1000 do assert(stream:readline() == "WORD " .. i .. "\n") end
    assert.is_nil(stream:readline())
  end

  it("runs a program for our client on a port", function()
    need("socat")
    local port = net.free_port()
    local _ <close> = listening(("TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork"):format(port),
      "EXEC:tr a-z A-Z")
    for _ = 1, 3 do
      local stream <close> = moonloop.connect("127.0.0.1", port)
      capitals(stream)
    end
  end)

  it("runs a program for our client on a Unix socket", function()
    need("socat")
    local folder <close> = script.folder()
    local path = folder.path .. "/socket"
    local _ <close> = listening("UNIX-LISTEN:" .. path .. ",fork", "EXEC:tr a-z A-Z")
    for _ = 1, 3 do
      local stream <close> = moonloop.connect_unix(path)
      capitals(stream)
    end
  end)

  it("runs a program for our client on an abstract name", function()
    need("socat")
    local name = abstract_name()
    local _ <close> = listening("ABSTRACT-LISTEN:" .. name .. ",fork", "EXEC:tr a-z A-Z")
    local reader, writer = moonloop.open_unix_connection("\0" .. name)
    local _ <close> = writer
    capitals(reader)
  end)

  it("hands on what a relay brings it", function()
    need("socat")
    local folder <close> = script.folder()
    local path = folder.path .. "/socket"
    local _ <close> = listening("UNIX-LISTEN:" .. path .. ",fork", "EXEC:tr a-z A-Z")
    local there, back
    local server <close> = moonloop.start_server(function(stream)
      local upstream <close> = moonloop.connect_unix(path)
      there, back = moonloop.relay(stream, upstream)
    end, "127.0.0.1", 0)
    local text = net.text(1024 * 1024)
    folder:write("input", text)
    local _, out = peers.run(("exec socat -t 30 STDIO TCP:127.0.0.1:%d <%s/input")
      :format(server:port(), folder.path))
    assert.is_true(out == text:upper())
    assert.equal(#text, there)
    assert.equal(#text, back)
  end)

  it("has the program that it connects to us sort what we send", function()
    need("socat")
    local sorted
    local server <close> = moonloop.start_server(function(stream)
      for i = 500, 1, -1 do stream:write(("%03d\n"):format(i)) end
      stream:write_eof()
      sorted = stream:read()
    end, "127.0.0.1", 0)
    local status, out = peers.run(("exec socat -t 30 TCP:127.0.0.1:%d EXEC:sort")
      :format(server:port()))
    assert.equal(0, status, out)
    server:close()
    server:wait_closed()
    assert.equal(2000, #sorted)
    assert.equal("001\n002\n003\n", sorted:sub(1, 12))
  end)
end)

describe("socat on a pseudo-terminal of ours", function()
  it("carries what the master writes to a server and back", function()
    need("socat")
    local connected = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      connected:set_result()
      echo(stream)
    end, "127.0.0.1", 0)
    local master, slave = moonloop.open_pty()
    local _ <close> = master
    local job = peers.start(("exec socat FILE:%s,raw,echo=0 TCP:127.0.0.1:%d"):format(slave,
      server:port()))
    connected:await() -- by then socat has made the terminal raw
    for i = 1, 200 do
      local line = ("%d "):format(i):rep(i) .. "\n"
      master:write(line)
      assert.equal(line, master:readline())
    end
    master:close() -- which hangs up
    job:wait()
  end)
end)

describe("Our standard streams under socat", function()
  local UPPER = [[
    local moonloop = require "moonloop"
    for line in moonloop.stdin:lines() do
      if line == "end" then break end
      moonloop.stdout:write(line:upper(), "\n")
    end
    moonloop.stderr:write("done")
  ]]

  local LINES = 500

  -- What the script says when socat runs it by those means, errors last. Awaits.
  local function upper(means)
    local folder <close> = script.folder()
    folder:write("upper.lua", UPPER)
    local lines = {}
    for i = 1, LINES do lines[i] = "line " .. i end
    folder:write("input", table.concat(lines, "\n") .. "\nend\n")
    folder:write("run", ("cd %s && exec %s upper.lua 2>errors\n"):format(folder.path,
      script.binary))
    local status, out = peers.run(("exec socat -t 30 STDIO 'EXEC:sh %s/run%s' <%s/input")
      :format(folder.path, means, folder.path))
    assert.equal(0, status, out)
    return out, folder:read("errors")
  end

  local expected = {}
  for i = 1, LINES do expected[i] = "LINE " .. i .. "\n" end
  expected = table.concat(expected)

  for name, means in pairs({ ["one socket"] = "", ["a terminal"] = ",pty,raw,echo=0" }) do
    it("read and write when they are " .. name, function()
      need("socat")
      local out, errors = upper(means)
      assert.is_true(out == expected, out:sub(1, 200))
      assert.equal("done", errors)
    end)
  end
end)

describe("socat's datagrams", function()
  it("come from a port to ours", function()
    need("socat")
    local udp <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1", port = 0 } }
    local port = udp:getsockname().port
    peers.run(("printf 'one piece' | socat -u STDIN UDP-SENDTO:127.0.0.1:%d"):format(port))
    local data, from = udp:recv()
    assert.equal("one piece", data)
    assert.equal("127.0.0.1", from.host)
  end)

  it("come from a Unix socket to ours", function()
    need("socat")
    local folder <close> = script.folder()
    local path = folder.path .. "/socket"
    local unix <close> = moonloop.open_datagram { local_addr = { path = path } }
    peers.run(("printf 'one piece' | socat -u STDIN UNIX-SENDTO:%s"):format(path))
    assert.equal("one piece", (unix:recv()))
  end)

  it("are answered by a program behind it", function()
    need("socat")
    local port = net.free_port()
    local _ <close> = background.start({ "socat", "-d", "-d",
      ("UDP-RECVFROM:%d,bind=127.0.0.1,fork"):format(port), "EXEC:tr a-z A-Z" },
      "receiving on")
    local udp <close> = moonloop.open_datagram { remote_addr = { host = "127.0.0.1", port = port } }
    udp:send("please answer")
    assert.equal("PLEASE ANSWER", (udp:recv()))
  end)
end)

-- SPDX-License-Identifier: MIT
-- Unix sockets: start_unix_server, open_unix_connection and connect_unix over paths and abstract
-- names, what each end knows of the other, options, errors, and socat as a real peer.
local moonloop = require "moonloop"
local luasocket_unix = require "socket.unix"
local command = require "spec.support.command"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"

local function echo(stream)
  for data in stream:chunks() do stream:write(data) end
end

local function finish(server)
  server:close()
  server:wait_closed()
end

local function process_id()
  local stat <close> = assert(io.open("/proc/self/stat"))
  return stat:read("n")
end

local function shell_number(line)
  local _, out = command.run({ "sh", "-c", line })
  return math.tointeger(out:match("%d+"))
end

-- A name that no other process uses.
local function abstract_name(word)
  return ("\0moonloop-spec-%d-%s"):format(process_id(), word)
end

local NAMES = {
  ["a path"] = function() return pipes.free_path() end,
  ["an abstract name"] = function()
    return setmetatable({ path = abstract_name("name") }, { __close = function() end })
  end,
}

for what, new_name in pairs(NAMES) do
  describe("A Unix server on " .. what, function()
    it("serves who connects", function()
      local name <close> = new_name()
      local server = moonloop.start_unix_server(echo, name.path)
      local stream <close> = moonloop.connect_unix(name.path)
      stream:write("over there\n")
      assert.equal("over there\n", stream:readline())
      stream:write_eof()
      assert.equal("", stream:read())
      finish(server)
    end)

    it("gives its handler and open_unix_connection the Stream twice", function()
      local name <close> = new_name()
      local same = moonloop.Future()
      local server = moonloop.start_unix_server(function(reader, writer)
        same:set_result(rawequal(reader, writer))
      end, name.path)
      local reader, writer = moonloop.open_unix_connection(name.path)
      local _ <close> = reader
      assert.is_true(rawequal(reader, writer))
      assert.is_true(same:await())
      finish(server)
    end)

    it("says where it listens, and has no port", function()
      local name <close> = new_name()
      local server = moonloop.start_unix_server(echo, name.path)
      assert.same({ { path = name.path } }, server:sockets())
      net.raises("InvalidStateError", server.port, server)
      finish(server)
      assert.same({}, server:sockets())
    end)

    it("knows the addresses and the process at the other end", function()
      local name <close> = new_name()
      local seen = moonloop.Future()
      local server = moonloop.start_unix_server(function(stream)
        seen:set_result(stream:get_extra_info("sockname"), stream:get_extra_info("peername"),
          stream:get_extra_info("peercred"))
      end, name.path)
      local stream <close> = moonloop.connect_unix(name.path)
      local us = { pid = process_id(), uid = shell_number("id -u"), gid = shell_number("id -g") }
      assert.same({ { path = name.path }, { path = "" }, us }, { seen:await() })
      assert.same({ path = name.path }, stream:get_extra_info("peername"))
      assert.same({ path = "" }, stream:get_extra_info("sockname"))
      assert.same(us, stream:get_extra_info("peercred"))
      finish(server)
    end)

    it("can be followed by another one on the same name", function()
      local name <close> = new_name()
      for round = 1, 3 do
        local server = moonloop.start_unix_server(function(s) s:write("round ", round) end,
          name.path)
        local stream <close> = moonloop.connect_unix(name.path)
        assert.equal("round " .. round, stream:read())
        finish(server)
      end
    end)

    it("keeps its name from a second server", function()
      local name <close> = new_name()
      local server = moonloop.start_unix_server(echo, name.path)
      local err = net.raises("AddressInUseError", moonloop.start_unix_server, echo, name.path)
      assert.equal("EADDRINUSE", err.code)
      local shown = name.path:gsub("^\0", "@")
      assert.matches(shown, err.message, 1, true)
      local stream <close> = moonloop.connect_unix(name.path)
      stream:write("still there\n")
      assert.equal("still there\n", stream:readline())
      stream:close()
      finish(server)
    end)

    it("carries much both ways", function()
      local name <close> = new_name()
      local text = net.text(3 * 1024 * 1024)
      local server = moonloop.start_unix_server(echo, name.path)
      local stream <close> = moonloop.connect_unix(name.path)
      local writer = moonloop.create_task(function()
        stream:write(text)
        stream:write_eof()
      end)
      assert.is_true(stream:read() == text)
      writer:await()
      finish(server)
    end)
  end)
end

describe("An abstract name", function()
  it("may hold any byte, zero bytes too", function()
    local name = abstract_name("with\0zero\255")
    local server = moonloop.start_unix_server(echo, name)
    assert.same({ { path = name } }, server:sockets())
    local stream <close> = moonloop.connect_unix(name)
    assert.same({ path = name }, stream:get_extra_info("peername"))
    local other = name:gsub("zero", "none")
    net.raises("ConnectionRefusedError", moonloop.connect_unix, other)
    stream:close()
    finish(server)
  end)

  it("that nobody listens on is shown with an @", function()
    local name = abstract_name("nobody")
    local err = net.raises("ConnectionRefusedError", moonloop.connect_unix, name)
    assert.matches("@" .. name:sub(2), err.message, 1, true)
  end)
end)

describe("connect_unix", function()
  it("raises FileNotFoundError where nothing is, and names it", function()
    local nothing <close> = pipes.free_path()
    local err = net.raises("FileNotFoundError", moonloop.connect_unix, nothing.path)
    assert.equal("ENOENT", err.code)
    assert.matches(nothing.path, err.message, 1, true)
    net.raises("FileNotFoundError", moonloop.open_unix_connection, nothing.path)
  end)

  it("raises ConnectionRefusedError where a regular file is", function()
    local file <close> = pipes.file("text")
    local err = net.raises("ConnectionRefusedError", moonloop.connect_unix, file.path)
    assert.equal("ECONNREFUSED", err.code)
  end)

  it("raises an OSError for a path that is too long, and names it", function()
    local path = "/tmp/" .. ("x"):rep(103)
    local err = net.raises("OSError", moonloop.connect_unix, path)
    assert.equal("ENAMETOOLONG", err.code)
    assert.matches(path, err.message, 1, true)
  end)

  it("keeps the limit it is given", function()
    local name <close> = pipes.free_path()
    local server = moonloop.start_unix_server(echo, name.path)
    local stream <close> = moonloop.connect_unix(name.path, { limit = 10 })
    stream:write("a line that is too long\n")
    net.raises("LimitOverrunError", stream.readline, stream)
    stream:abort()
    finish(server)
  end)

  it("waits for a server whose backlog is full, up to its timeout", function()
    local name <close> = pipes.free_path()
    local listener = assert(luasocket_unix.stream())
    assert(listener:bind(name.path))
    assert(listener:listen(0))
    local waiting = {}
    for i = 1, 4 do waiting[i] = tasks.start(moonloop.connect_unix, name.path) end
    assert.is_false(waiting[4]:done())
    net.raises("TimeoutError", moonloop.connect_unix, name.path, { timeout = 0.02 })
    assert.is_true(tasks.cancel(waiting[4]))
    local fd = math.tointeger(listener:getfd())
    listener:setfd(-1)
    local server = moonloop.start_unix_server(echo, nil, { sock = fd })
    for i = 1, 3 do
      local stream <close> = waiting[i]:await()
      stream:write("served\n")
      assert.equal("served\n", stream:readline())
    end
    finish(server)
  end)

  it("takes over a socket or a descriptor that is connected", function()
    local name <close> = pipes.free_path()
    local server = moonloop.start_unix_server(echo, name.path)
    for _, given in ipairs({ "socket", "descriptor" }) do
      local unix = moonloop.socket.unix()
      unix:connect({ path = name.path })
      local sock = given == "socket" and unix or unix:detach()
      local stream <close> = moonloop.connect_unix(nil, { sock = sock })
      assert.equal(-1, unix:fileno())
      stream:write(given, "\n")
      assert.equal(given .. "\n", stream:readline())
      assert.same({ path = name.path }, stream:get_extra_info("peername"))
    end
    finish(server)
  end)

  it("refuses bad arguments", function()
    for _, name in ipairs({ "connect_unix", "open_unix_connection" }) do
      local connect, what = moonloop[name], ("to '%s'"):format(name)
      for _, wrong in ipairs({ true, {}, print }) do
        net.refuses("bad argument #1 " .. what, connect, wrong)
      end
      net.refuses("bad argument #1 " .. what, connect)
      for _, opts in ipairs({ 5, { limits = 5 }, { limit = 0 }, { timeout = "x" } }) do
        net.refuses("bad argument #2 " .. what, connect, "/tmp/none", opts)
      end
    end
    net.refuses("'limit'", moonloop.connect_unix, "/tmp/none", { limits = 5 })
  end)
end)

describe("A Unix server", function()
  it("gives its limit to the streams of its handlers", function()
    local name <close> = pipes.free_path()
    local failed = moonloop.Future()
    local server = moonloop.start_unix_server(function(stream)
      failed:set_result(tasks.kind(stream.readline, stream))
    end, name.path, { limit = 10 })
    local stream <close> = moonloop.connect_unix(name.path)
    stream:write("a line that is too long\n")
    assert.equal("LimitOverrunError", failed:await())
    finish(server)
  end)

  it("has the methods and options of every server", function()
    local name <close> = pipes.free_path()
    local server = moonloop.start_unix_server(echo, name.path, {
      start_serving = false, max_connections = 1, limit = 100, backlog = 5,
    })
    assert.is_false(server:is_serving())
    server:start_serving()
    assert.is_true(server:is_serving())
    local first <close> = moonloop.connect_unix(name.path)
    first:write("first\n")
    assert.equal("first\n", first:readline())
    local second <close> = moonloop.connect_unix(name.path)
    second:write("second\n")
    local task = tasks.start(second.readline, second)
    assert.is_false(task:done())
    first:close()
    assert.equal("second\n", task:await())
    second:close()
    finish(server)
  end)

  it("reports its handler's error and serves on", function()
    local reports <close> = tasks.reports()
    local name <close> = pipes.free_path()
    local server = moonloop.start_unix_server(function(stream)
      if stream:readline() == "fail\n" then error("handler failed") end
      stream:write("fine")
    end, name.path)
    for _, case in ipairs({ { "fail\n", "" }, { "go\n", "fine" } }) do
      local stream <close> = moonloop.connect_unix(name.path)
      stream:write(case[1])
      assert.equal(case[2], stream:read())
    end
    assert.equal(1, #reports)
    assert.matches("handler failed", tostring(reports[1].error), 1, true)
    finish(server)
  end)

  it("refuses bad arguments", function()
    local what = "to 'start_unix_server'"
    net.refuses("bad argument #1 " .. what, moonloop.start_unix_server, 5, "/tmp/none")
    for _, wrong in ipairs({ true, {}, print }) do
      net.refuses("bad argument #2 " .. what, moonloop.start_unix_server, echo, wrong)
    end
    net.refuses("bad argument #2 " .. what, moonloop.start_unix_server, echo)
    local OPTIONS = {
      5, { modes = 5 }, { limit = 0 }, { mode = true }, { mode = "8" }, { mode = "rw" },
      { mode = -1 }, { mode = 4096 * 8 }, { max_connections = 0 }, { backlog = -1 },
      { reuse_port = true },
    }
    for _, opts in ipairs(OPTIONS) do
      net.refuses("bad argument #3 " .. what, moonloop.start_unix_server, echo, "/tmp/none", opts)
    end
    net.refuses("'mode'", moonloop.start_unix_server, echo, "/tmp/none", { modes = 5 })
  end)
end)

describe("socat", function()
  local function need_socat()
    if command.run({ "sh", "-c", "command -v socat" }) ~= 0 then
      pending("socat is not installed")
    end
  end

  it("talks to a Unix server, by path and by abstract name", function()
    need_socat()
    local abstract = abstract_name("socat")
    local name <close> = pipes.free_path()
    local ADDRESSES = {
      [name.path] = "UNIX-CONNECT:" .. name.path,
      [abstract] = "ABSTRACT-CONNECT:" .. abstract:sub(2),
    }
    for path, address in pairs(ADDRESSES) do
      local server = moonloop.start_unix_server(echo, path)
      local status, out = peers.run(([[
        cd /tmp; seq 1 20000 >numbers_$$
        socat -t 10 STDIO %s <numbers_$$ | cmp - numbers_$$ && echo the same
        rm numbers_$$
      ]]):format(address))
      assert.same({ 0, "the same\n" }, { status, out })
      finish(server)
    end
  end)

  it("serves our connection", function()
    need_socat()
    local name <close> = pipes.free_path()
    local job = peers.start(("socat UNIX-LISTEN:%s EXEC:'tr a-z A-Z'"):format(name.path))
    local stream
    repeat
      moonloop.sleep(0.02)
      stream = select(2, pcall(moonloop.connect_unix, name.path))
    until not moonloop.is_error(stream)
    local _ <close> = stream
    stream:write("some words\n")
    stream:write_eof()
    assert.equal("SOME WORDS\n", stream:read())
    assert.is_true(stream:get_extra_info("peercred").pid ~= process_id())
    stream:close()
    assert.equal(0, (job:wait()))
  end)
end)

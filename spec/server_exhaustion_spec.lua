-- SPDX-License-Identifier: MIT
-- A Server whose process runs out of descriptors: it says so once, tries again now and then without
-- being busy, and serves everybody when there are some again.
local command = require "spec.support.command"
local script = require "spec.support.script"

-- What the scripts begin with: a server that does not serve yet, and ways to take every descriptor
-- and to give them back. Each report is a line.
local HEAD = [[
  local moonloop = require "moonloop"
  local loop = moonloop.get_running_loop()
  loop:set_exception_handler(function(_, context)
    print("report", context.error.code, context.message)
  end)

  local function echo(stream)
    for line in function() return stream:readline() end do stream:write(line) end
  end

  local server = moonloop.start_server(echo, "127.0.0.1", 0, { start_serving = false })

  local function connect(count)
    local clients = {}
    for i = 1, count do clients[i] = moonloop.connect("127.0.0.1", server:port()) end
    return clients
  end

  local function ask(clients)
    for i, client in ipairs(clients) do
      client:write("client ", i, "\n")
      io.write(client:readline())
      client:close()
    end
  end

  local function take_all()
    local files = {}
    for file in function() return (io.open("/dev/null")) end do files[#files + 1] = file end
    return files
  end

  local function give_back(files)
    for _, file in ipairs(files) do file:close() end
  end

  -- Time jumps whenever nothing is to be done: what goes on meanwhile is no matter of speed.
  local function pass(seconds)
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0 }
    moonloop.sleep(seconds)
  end
]]

-- Runs a script that has few descriptors; `wrapper` is words to stand before the command.
local function run(source, wrapper)
  local folder <close> = script.folder()
  folder:write("script.lua", HEAD .. source)
  local line = ("ulimit -n 40; exec %s %s script.lua"):format(wrapper or "",
    command.quote(script.binary))
  local status, out, err = folder:shell(line, { env = { ASAN_OPTIONS = "detect_leaks=0" } })
  return status, out, err, wrapper and folder:read("trace")
end

local function count(text, pattern)
  local _, n = text:gsub(pattern, "")
  return n
end

describe("A Server out of descriptors", function()
  local ONE_SPELL = [[
    local clients = connect(3)
    local files = take_all()
    server:start_serving()
    pass(2)
    give_back(files)
    ask(clients)
    local _ <close> = server]]

  it("reports it once, tries again, and serves who waited #bare", function()
    local status, out, err = run(ONE_SPELL)
    assert.equal("", err)
    assert.equal(1, count(out, "report"))
    assert.matches("^report\tEMFILE\t", out)
    assert.matches("client 1\nclient 2\nclient 3\n$", out)
    assert.equal(0, status)
  end)

  it("tries some ten times in a second, and does nothing else #bare", function()
    local _, out, _, trace = run(ONE_SPELL,
      "strace -f -e trace=accept4,epoll_wait,epoll_pwait,epoll_pwait2,poll -o trace")
    assert.matches("client 3\n$", out)
    local tries = count(trace, "EMFILE")
    assert.is_true(tries >= 2 and tries <= 30, "tries: " .. tries)
    local polls = count(trace, "poll")
    assert.is_true(polls <= 400, "looks at descriptors: " .. polls)
  end)

  it("reports it again when it happens again #bare", function()
    local _, out, err = run [[
      server:start_serving()
      for _ = 1, 2 do
        local files = take_all()
        give_back { table.remove(files) } -- one for the client, none for its connection
        local clients = connect(1)
        pass(1)
        give_back(files)
        ask(clients)
        pass(1) -- the server has closed its side, too
      end
      local _ <close> = server]]
    assert.equal("", err)
    assert.equal(2, count(out, "report\tEMFILE"))
    assert.equal(2, count(out, "client 1\n"))
  end)

  it("serves those that it has #bare", function()
    local _, out, err = run [[
      server:start_serving()
      local served, waiting = connect(2), nil
      served[1]:write("hello\n")
      served[1]:readline()
      served[2]:write("hello\n")
      served[2]:readline()
      local files = take_all()
      give_back { table.remove(files) }
      waiting = connect(1)
      pass(1)
      ask(served)
      give_back(files)
      ask(waiting)
      local _ <close> = server]]
    assert.equal("", err)
    assert.equal(1, count(out, "report"))
    assert.equal(2, count(out, "client 1\n"))
    assert.equal(1, count(out, "client 2\n"))
  end)

  it("recovers by itself when its own connections end #bare", function()
    local _, out, err = run [[
      server:start_serving()
      local files = take_all()
      for _ = 1, 3 do give_back { table.remove(files) } end
      local clients = connect(2) -- the second's connection is one too many
      pass(1)
      ask(clients)
      give_back(files)
      local _ <close> = server]]
    assert.equal("", err)
    assert.matches("^report\tEMFILE[^\n]*\nclient 1\nclient 2\n$", out)
  end)

  it("is closed at once #bare", function()
    local status, out, err = run [[
      local clients = connect(1)
      local files = take_all()
      server:start_serving()
      pass(1)
      server:close()
      server:wait_closed()
      give_back(files)
      clients[1]:abort()
      print("closed")]]
    assert.same({ 0, "" }, { status, err })
    assert.equal(1, count(out, "report"))
    assert.matches("closed\n$", out)
  end)
end)

describe("A program out of descriptors", function()
  it("gets an OSError from what needs one #bare", function()
    local _, out, err = run [[
      local files = take_all()
      local CALLS = {
        function() return moonloop.connect("127.0.0.1", 9) end,
        function() return moonloop.start_server(echo, "127.0.0.1", 0) end,
        function() return moonloop.socket.tcp() end,
        function() return moonloop.socket.socketpair() end,
        function() return moonloop.open_datagram { family = "inet" } end,
      }
      for _, call in ipairs(CALLS) do
        local ok, raised = pcall(call)
        print(ok, moonloop.is_error(raised, "OSError"), raised.code)
      end
      give_back(files)
      server:close()]]
    assert.equal("", err)
    assert.equal(("false\ttrue\tEMFILE\n"):rep(5), out)
  end)
end)

-- SPDX-License-Identifier: MIT
-- moonloop.socketpair: two Streams, joined, that know each other's process.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"

local function process_id()
  local stat <close> = assert(io.open("/proc/self/stat"))
  return stat:read("n")
end

local function shell_number(line)
  local _, out = command.run({ "sh", "-c", line })
  return math.tointeger(out:match("%d+"))
end

describe("socketpair", function()
  it("gives two streams, each the other's end", function()
    local pair <close> = pipes.pair()
    local a, b = pair.client, pair.peer
    a:write("there\n")
    b:write("and back\n")
    assert.equal("there\n", b:readline())
    assert.equal("and back\n", a:readline())
    assert.is_true(a:fileno() >= 0 and b:fileno() >= 0 and a:fileno() ~= b:fileno())
  end)

  it("ends one direction by write_eof", function()
    local pair <close> = pipes.pair()
    assert.is_true(pair.client:can_write_eof())
    pair.client:write("question")
    pair.client:write_eof()
    assert.equal("question", pair.peer:read())
    pair.peer:write("answer")
    pair.peer:close()
    assert.equal("answer", pair.client:read())
  end)

  it("carries much both ways at once", function()
    local pair <close> = pipes.pair()
    local text = net.text(4 * 1024 * 1024 + 3)
    local jobs = {}
    for i, stream in ipairs({ pair.client, pair.peer }) do
      jobs[i] = moonloop.create_task(function()
        stream:write(text)
        stream:write_eof()
      end)
    end
    local got = moonloop.create_task(function() return pair.client:read() end)
    assert.is_true(pair.peer:read() == text)
    assert.is_true(got:await() == text)
    for _, job in ipairs(jobs) do job:await() end
  end)

  it("waits when the other end does not read", function()
    local pair <close> = pipes.pair()
    local count = net.fill(pair.client)
    local task = tasks.start(function() pair.client:write("after") end)
    assert.is_false(task:done())
    net.drain_filled(pair.peer, count)
    assert.equal("after", pair.peer:readexactly(5))
    task:await()
  end)

  it("raises BrokenPipeError when the other end has gone", function()
    local pair <close> = pipes.pair()
    pair.peer:close()
    pair.peer:wait_closed()
    assert.is_nil(pair.client:read(1))
    local err = net.raises("BrokenPipeError", pair.client.write, pair.client, "x")
    assert.equal("EPIPE", err.code)
  end)

  it("takes a limit for both", function()
    local pair <close> = pipes.pair({ limit = 8 })
    pair.client:write("a line too long\n")
    pair.peer:write("a line too long\n")
    net.raises("LimitOverrunError", pair.client.readline, pair.client)
    net.raises("LimitOverrunError", pair.peer.readline, pair.peer)
    assert.equal("a line too long\n", pair.peer:readexactly(16))
  end)

  it("refuses an option that does not exist", function()
    net.refuses("bad argument #1 to 'socketpair'", moonloop.socketpair, { limits = 5 })
    net.refuses("bad argument #1 to 'socketpair'", moonloop.socketpair, { limit = 0 })
    net.refuses("bad argument #1 to 'socketpair'", moonloop.socketpair, 5)
  end)

  it("has addresses without a name, and the peer's process", function()
    local pair <close> = pipes.pair()
    assert.same({ path = "" }, pair.client:get_extra_info("sockname"))
    assert.same({ path = "" }, pair.client:get_extra_info("peername"))
    assert.same({ pid = process_id(), uid = shell_number("id -u"), gid = shell_number("id -g") },
      pair.peer:get_extra_info("peercred"))
  end)

  it("is not handed on to programs that are started", function()
    local pair <close> = pipes.pair()
    local _ <close> = assert(io.popen("cat >/dev/null", "w"))
    pair.client:close()
    pair.client:wait_closed()
    assert.is_true(moonloop.move_on_after(10, pair.peer.read, pair.peer))
  end)
end)

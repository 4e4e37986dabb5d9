-- SPDX-License-Identifier: MIT
-- The limit of a Stream's buffer: who raises LimitOverrunError, that nothing is
-- lost by it, that it stops a sender; and Stream:at_eof.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local SEEKERS = {
  ["readline"] = function(s) return s:readline() end,
  ["readuntil"] = function(s) return s:readuntil("\n") end,
  ["lines"] = function(s) return (s:lines()()) end,
}

for name, seek in pairs(SEEKERS) do
  describe("Stream:" .. name .. " beyond the limit", function()
    it("raises LimitOverrunError, which names the option", function()
      local pair <close> = net.pair({ client = { limit = 64 } })
      pair.peer:write(("x"):rep(1000))
      local err = net.raises("LimitOverrunError", seek, pair.client)
      assert.matches("limit", err.message, 1, true)
      assert.equal("number", type(err.consumed))
    end)

    it("raises it while it waits", function()
      local pair <close> = net.pair({ client = { limit = 64 } })
      local task = tasks.start(seek, pair.client)
      net.trickle(pair.peer, ("x"):rep(200), 20)
      net.raises("LimitOverrunError", task.await, task)
    end)

    it("raises it when the separator is there, but too far", function()
      local pair <close> = net.pair({ client = { limit = 64 } })
      pair.peer:write(("x"):rep(200), "\n")
      wait_all_blocked()
      net.raises("LimitOverrunError", seek, pair.client)
    end)

    it("leaves the data readable", function()
      local pair <close> = net.pair({ client = { limit = 64 } })
      local text = ("0123456789"):rep(100)
      pair.peer:write(text, "\nnext\n")
      for _ = 1, 3 do net.raises("LimitOverrunError", seek, pair.client) end
      assert.equal(text .. "\n", pair.client:readexactly(1001))
      assert.equal("next", (seek(pair.client):gsub("\n", "")))
    end)

    it("says how many bytes can be read on the way to the separator", function()
      local pair <close> = net.pair({ client = { limit = 64 } })
      pair.peer:write(("x"):rep(500))
      local err = net.raises("LimitOverrunError", seek, pair.client)
      assert.is_true(err.consumed > 0 and err.consumed <= 500)
      assert.equal(("x"):rep(err.consumed), pair.client:readexactly(err.consumed))
    end)

    it("takes what just fits", function()
      local pair <close> = net.pair({ client = { limit = 64 } })
      pair.peer:write(("x"):rep(63), "\n", ("y"):rep(63), "\n")
      assert.equal(("x"):rep(63), (seek(pair.client):gsub("\n", "")))
      assert.equal(("y"):rep(63), (seek(pair.client):gsub("\n", "")))
    end)
  end)
end

describe("The limit", function()
  it("is 1 MiB unless an option says otherwise", function()
    local pair <close> = net.pair()
    local fits, over = ("x"):rep(1000000), ("y"):rep(1100000)
    local writer = moonloop.create_task(function() pair.peer:write(fits, "\n", over, "\n") end)
    assert.equal(1000001, #pair.client:readline())
    net.raises("LimitOverrunError", pair.client.readline, pair.client)
    assert.equal(1100001, #pair.client:readexactly(1100001))
    writer:await()
  end)

  it("is an option of start_server, too", function()
    local pair <close> = net.pair({ server = { limit = 32 } })
    pair.client:write(("x"):rep(100), "\n")
    net.raises("LimitOverrunError", pair.peer.readline, pair.peer)
    assert.equal(101, #pair.peer:readexactly(101))
  end)

  it("refuses what is no positive count", function()
    for _, wrong in ipairs({ 0, -1, "much", {} }) do
      local ok, err = pcall(moonloop.connect, "127.0.0.1", 9, { limit = wrong })
      assert.is_false(ok)
      assert.matches("limit", tostring(err), 1, true)
    end
  end)

  it("stops a sender that is faster than the reader", function()
    local pair <close> = net.pair({ client = { limit = 4096 } })
    local count = net.fill(pair.peer)
    assert.is_false(pair.peer:try_write("x"))
    local reader = moonloop.create_task(net.drain_filled, pair.client, count)
    reader:await()
    assert.is_true(pair.peer:try_write("x"))
    assert.equal("x", pair.client:read(10))
  end)
end)

describe("Stream:at_eof", function()
  it("is false until the end of file has come and all is read", function()
    local pair <close> = net.pair()
    assert.is_false(pair.client:at_eof())
    pair.peer:write("ab")
    pair.peer:write_eof()
    assert.equal("a", pair.client:read(1))
    assert.is_false(pair.client:at_eof())
    assert.equal("b", pair.client:read())
    assert.is_true(pair.client:at_eof())
  end)

  it("is true after a read gave nil", function()
    local pair <close> = net.pair()
    pair.peer:write_eof()
    assert.is_nil(pair.client:read(1))
    assert.is_true(pair.client:at_eof())
  end)
end)

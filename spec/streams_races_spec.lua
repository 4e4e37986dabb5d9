-- SPDX-License-Identifier: MIT
-- A reader that has used up its turn waits in the ready queue although its data
-- has come. What others do to the stream meanwhile: read, close, abort, cancel.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local LINE = "123456789\n"
local COUNT = 2000

-- Each takes one LINE.
local CALLS = {
  ["read(n)"] = function(s) return s:read(#LINE) end,
  ["readexactly"] = function(s) return s:readexactly(#LINE) end,
  ["readline"] = function(s) return s:readline() end,
  ["readuntil"] = function(s) return s:readuntil({ "\n", "--" }) end,
}

-- A pair whose client holds COUNT lines.
local function loaded_pair()
  local pair = net.pair()
  pair.peer:write(LINE:rep(COUNT + 1))
  pair.client:readline()
  wait_all_blocked()
  return pair
end

-- Starts a task that takes every line, but leaves it where its first turn ends:
-- more lines are there, and it waits for its next turn.
local function start_reader(pair, call)
  local state = { count = 0 }
  state.task = moonloop.create_task({ name = "the reader" }, function()
    while state.count < COUNT do
      local line = call(pair.client)
      assert(line == LINE, "not a line: " .. tostring(line))
      state.count = state.count + 1
    end
  end)
  moonloop.sleep(0)
  assert.is_true(state.count > 0 and state.count < COUNT)
  return state
end

for name, call in pairs(CALLS) do
  describe("Stream:" .. name .. " between two turns", function()
    for _, ending in ipairs({ "close", "abort" }) do
      it("raises InvalidStateError after another task's " .. ending, function()
        local pair <close> = loaded_pair()
        local reader = start_reader(pair, call)
        pair.client[ending](pair.client)
        net.raises("InvalidStateError", reader.task.await, reader.task)
      end)
    end

    it("is the one reader, and the next one's error names its task", function()
      local pair <close> = loaded_pair()
      local reader = start_reader(pair, call)
      for _, other in pairs(CALLS) do
        local err = net.raises("InvalidStateError", other, pair.client)
        assert.matches("the reader", err.message, 1, true)
      end
      reader.task:await()
      assert.equal(COUNT, reader.count)
    end)

    it("loses no byte when it is cancelled", function()
      local pair <close> = loaded_pair()
      local reader = start_reader(pair, call)
      assert.is_true(tasks.cancel(reader.task))
      for _ = reader.count + 1, COUNT do assert(call(pair.client) == LINE) end
      pair.peer:write_eof()
      assert.is_nil(pair.client:read(1))
    end)

    it("gives what came before the end of file", function()
      local pair <close> = loaded_pair()
      pair.peer:write_eof()
      wait_all_blocked()
      local reader = start_reader(pair, call)
      reader.task:await()
      assert.equal(COUNT, reader.count)
      assert.is_nil(pair.client:read(1))
    end)
  end)
end

describe("A reader whose data and close come in the same turn", function()
  it("raises InvalidStateError or has all it asked for, never a part", function()
    local pair <close> = net.pair()
    local task = tasks.start(function() return pair.client:readexactly(4) end)
    pair.peer:write("four")
    pair.client:close()
    local ok, got = tasks.outcome(task)
    if ok then assert.equal("four", got) end
    assert.is_true(ok or moonloop.is_error(got, "InvalidStateError"))
  end)
end)

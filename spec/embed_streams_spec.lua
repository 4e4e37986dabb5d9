-- SPDX-License-Identifier: MIT
-- Streams and sockets inside programs in C: each program of spec/embed/ checks itself and says
-- what it did.
local command = require "spec.support.command"
local stock = require "spec.support.stock"

local function program(name, opts)
  return command.run({ stock.build .. "/embed/" .. name }, opts or { timeout = 120 })
end

describe("An embedding program", function()
  it("ends its state while streams, servers and transports are at work", function()
    assert.same({ 0, "lua_close\nmoonloop_close\n", "" }, { program("close_streams") })
  end)

  it("closes and opens its state again, whose standard streams go on", function()
    assert.same({ 0, "one\ntwo\n", "said said\n" }, { program("reopen", { stdin = "two\n" }) })
  end)

  it("turns the loop in a task, and who was woken keeps its place", function()
    assert.same({ 0, "false\tInvalidStateError\nboth ended\n", "" }, { program("nested_run") })
  end)
end)

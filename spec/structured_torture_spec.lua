-- SPDX-License-Identifier: MIT
-- Thousands of tasks over everything they can wait for together, cancelled, timed
-- out and closed at random, lose, double, overtake and leave nothing. The seeds are
-- in the names; MOONLOOP_TORTURE_SEED=N runs that one alone.
local command = require "spec.support.command"
local script = require "spec.support.script"

local PROGRAM, SEEDS, FEWEST = "spec/support/structured_torture.lua", 5, 5000

local function seeds()
  local asked = tonumber(os.getenv("MOONLOOP_TORTURE_SEED"))
  if asked then return { math.tointeger(asked) } end
  local list = {}
  for i = 1, SEEDS do list[i] = math.random(1, 1000000) end
  return list
end

describe("Random cancellations, deadlines and closings", function()
  for _, seed in ipairs(seeds()) do
    it("break no promise with seed " .. seed, function()
      local status, out, err = command.run({ script.binary, PROGRAM, tostring(seed) },
        { timeout = 240 })
      local again = ("\nagain: %s %s %d"):format(script.binary, PROGRAM, seed)
      assert.equal("", err, err .. again)
      assert.equal(0, status, out .. again)
      local made = tonumber(out:match("^survived (%d+) tasks\n$"))
      assert.is_true(made ~= nil and made >= FEWEST, out .. again)
    end)
  end
end)

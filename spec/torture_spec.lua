-- SPDX-License-Identifier: MIT
-- Random operations, nested in each other, do not crash the host; a seed that
-- does is printed with the name of its spec.
local command = require "spec.support.command"
local script = require "spec.support.script"

describe("Random operations on tasks, coroutines, futures and scopes", function()
  for _ = 1, 5 do
    local seed = math.random(1, 1000000)
    it("do no harm with seed " .. seed, function()
      local status, out, err = command.run({
        script.binary, "spec/support/torture.lua", tostring(seed),
      }, { timeout = 60 })
      if status == 1 and err:find("DeadlockError", 1, true) then return end
      assert.equal("survived\n", out, err)
      assert.equal(0, status)
    end)
  end
end)

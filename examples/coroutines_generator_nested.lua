-- SPDX-License-Identifier: MIT
-- What: generators that wait, inside generators that wait: a walk through a tree.
-- Why: a wait passes outward through every coroutine between it and its task, so recursive
--      generators need nothing special.
-- Usage: moonloop examples/coroutines_generator_nested.lua
local moonloop = require "moonloop"

local tree = {
  name = "earth", children = {
    { name = "europe", children = { { name = "alps" }, { name = "tatra" } } },
    { name = "asia", children = { { name = "altai" } } },
  },
}

local function walk(node, depth)
  return coroutine.wrap(function()
    moonloop.sleep(0) -- as if the node had to be fetched
    coroutine.yield(node.name, depth)
    for _, child in ipairs(node.children or {}) do
      for name, level in walk(child, depth + 1) do
        coroutine.yield(name, level)
      end
    end
  end)
end

for name, depth in walk(tree, 0) do
  print(("  "):rep(depth) .. name)
end

-- SPDX-License-Identifier: MIT
-- What: generators that wait, in stock Lua.
-- Why: the `moonloop` command brings coroutine functions that let a wait pass through. In stock Lua
--      the standard ones stay as they are until a program asks for ours by
--      moonloop.patch_coroutines().
-- Usage: lua5.4 examples/coroutines_stock.lua     (with moonloop.so on the LUA_CPATH)
--        moonloop examples/coroutines_stock.lua   (where the call changes nothing)
local moonloop = require "moonloop"
moonloop.patch_coroutines()

moonloop.run(function()
  local countdown = coroutine.wrap(function()
    for i = 3, 1, -1 do
      moonloop.sleep(0.01)
      coroutine.yield(i)
    end
  end)
  for i in countdown do
    print(i)
  end
  print("lift-off")
end)

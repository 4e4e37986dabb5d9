-- SPDX-License-Identifier: MIT
-- What: what fails raises an Error object, and kinds of errors form a tree.
-- Why: a program decides by kind, not by the wording of a message. moonloop.is_error takes any Lua
--      value and knows the tree: a ConnectionRefusedError is a ConnectionError, and that is an
--      OSError.
-- Usage: moonloop examples/errors_kinds.lua
local moonloop = require "moonloop"

-- A port that was free a moment ago: nobody listens there.
local server = moonloop.start_server(function() end, "127.0.0.1", 0)
local port = server:port()
server:close()
server:wait_closed()

local ok, e = pcall(moonloop.connect, "127.0.0.1", port)
print("connected: " .. tostring(ok))
print("kind: " .. e.kind .. ", code: " .. e.code)
for _, kind in ipairs { "ConnectionRefusedError", "ConnectionError", "OSError", "TimeoutError" } do
  print("is a " .. kind .. ": " .. tostring(moonloop.is_error(e, kind)))
end
print("a string is an Error: " .. tostring(moonloop.is_error("text")))

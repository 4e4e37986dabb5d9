-- SPDX-License-Identifier: MIT
-- Other programs that a spec wants: tells which of them is missing. Builds on command.lua.
local command = require "spec.support.command"

local M = {}

--- The first of these programs that is not there, if any.
function M.missing(...)
  for _, program in ipairs { ... } do
    local status = command.run({ "sh", "-c", "command -v " .. program })
    if status ~= 0 then return program end
  end
end

return M

-- SPDX-License-Identifier: MIT
-- What is to happen when a block is left, however that comes about.

local M = {}

local leaving_mt = { __close = function(self, err) self.fn(err) end }

--- Gives a value for a to-be-closed variable that calls `fn(err)`; the error is nil
-- also where a coroutine is closed from outside. `fn` is not shielded.
function M.on_leaving(fn) return setmetatable({ fn = fn }, leaving_mt) end

return M

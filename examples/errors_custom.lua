-- SPDX-License-Identifier: MIT
-- What: a kind of error of one's own.
-- Why: it takes part in everything: is_error, tostring, fields of its own, and the tree.
-- Usage: moonloop examples/errors_custom.lua
local moonloop = require "moonloop"

local TelescopeError = moonloop.Error:extend "TelescopeError"
local CloudError = TelescopeError:extend "CloudError"

local function observe()
  moonloop.sleep(0.01)
  error(CloudError:new("the sky is overcast", { cover = 0.9 }))
end

local ok, e = pcall(observe)
print(ok, tostring(e))
print("cover: " .. e.cover)
print("is a CloudError: " .. tostring(moonloop.is_error(e, CloudError)))
print("is a TelescopeError: " .. tostring(moonloop.is_error(e, "TelescopeError")))
print("is an OSError: " .. tostring(moonloop.is_error(e, "OSError")))

-- SPDX-License-Identifier: MIT
-- The standard streams: made when first asked for, one of each for a Lua state, of
-- no run.

local core = require "moonloop.core"
require "moonloop.streams"
require "moonloop.transfer"

--- The standard descriptors as Streams, whatever they are: terminal, pipe, socket or
-- file. Others who hold such a descriptor never see it non-blocking. What C's own
-- functions (`print`, `io.write`) have written to standard output comes before what
-- is written here. Closing one leaves /dev/null in its place.
-- @field stdin Stream, for reading
-- @field stdout Stream, for writing
-- @field stderr Stream, for writing
-- @see asyncio.loop.connect_read_pipe
local NUMBERS = { stdin = 0, stdout = 1, stderr = 2 }

local made = {}

-- One that went with its loop (`moonloop_close`) is made anew, one that the program
-- has closed is not.
return setmetatable({}, {
  __index = function(_, name)
    local stream = made[name]
    if not stream or core.was_dropped(stream) then
      stream = core.standard_stream(NUMBERS[name])
      made[name] = stream
    end
    return stream
  end,
})

-- SPDX-License-Identifier: MIT
-- Soak: 200,000 short connections through an echo server, in rounds. Some are left undisturbed and
-- must get back every byte; in the others the client or the server aborts, closes or is cancelled
-- at a random point. After each round no descriptor or task is left on either side, the bytes
-- echoed on both sides are equal, and in the end memory is flat.
--
--   build/moonloop spec/soak/short_connections.lua [connections] [seed]
package.path = "./?.lua;" .. package.path

local moonloop = require "moonloop"
local soak = require "spec.support.soak"

local CONNECTIONS = math.tointeger(tonumber(arg[1] or 200000))
local SEED = math.tointeger(tonumber(arg[2] or 1))
local ROUNDS = 10
local AT_A_TIME = 100
local LONGEST = 180 -- seconds for all of it
-- KiB of growth; 60 bytes that each connection left behind would be seen, 4 in Lua.
local BOUNDS = { memory = 4096, heap = 256 }

local KINDS = {
  { "echo", 50 }, { "leave", 15 }, { "abort", 10 }, { "close", 10 }, { "rude", 10 },
  { "cancel", 5 },
}

local verdict = soak.verdict()
local echoed = 0 -- bytes on undisturbed connections

local function write_pieces(stream, random, payload)
  local first = 1
  while first <= #payload do
    local size = random:integer(1, #payload)
    stream:write(payload:sub(first, first + size - 1))
    first = first + size
  end
end

-- Mostly short; one in fifty is long.
local function payload_of(random)
  local size = random:integer(1, 50) == 1 and random:integer(65536, 300000)
    or random:integer(0, 4096)
  return random:payload(size)
end

local clients = {}

function clients.echo(stream, random)
  local payload = payload_of(random)
  stream:write("echo\n")
  local writer = moonloop.create_task(function()
    write_pieces(stream, random, payload)
    stream:write_eof()
  end)
  local got = stream:read()
  writer:await()
  assert(got == payload, "other bytes came back")
  echoed = echoed + #got
end

-- Leaves by itself, at a random step.
function clients.leave(stream, random)
  local payload = payload_of(random)
  local step = random:integer(1, 4)
  if step >= 2 then stream:write("leave\n") end
  if step >= 3 then stream:try_write(payload) end
  if step >= 4 and #payload > 0 then
    local got = stream:read(random:integer(1, 8192))
    assert(got == payload:sub(1, #got), "other bytes came back")
  end
  if random:integer(1, 2) == 1 then stream:abort() end
end

-- The server leaves once it has had `most` bytes; only what was sent may come, and
-- all of it where nothing was on its way when it closed.
local function left_alone(kind, stream, random)
  local payload = random:payload(random:integer(1, 8192))
  local most = random:integer(0, #payload)
  local got = ""
  local ok, err = moonloop.pcall(function()
    stream:write(kind, " ", most, "\n", payload)
    for data in stream:chunks() do got = got .. data end
  end)
  assert(got == payload:sub(1, #got), "other bytes came back")
  if not ok and not soak.is_gone(err) then error(err, 0) end
  if kind == "close" and most == #payload then assert(#got == most, "bytes are missing") end
end

function clients.abort(stream, random) left_alone("abort", stream, random) end

function clients.close(stream, random) left_alone("close", stream, random) end

function clients.rude(stream)
  local ok, err = moonloop.pcall(function()
    stream:write("echo\n")
    assert(stream:read() == "", "the rude server spoke")
  end)
  if not ok and not soak.is_gone(err) then error(err, 0) end
end

function clients.cancel(stream, random)
  stream:write("leave\n")
  moonloop.move_on_after(random:integer(0, 2000) / 1e6, function()
    while true do
      local payload = random:payload(random:integer(1, 2000))
      stream:write(payload)
      assert(stream:readexactly(#payload) == payload, "other bytes came back")
    end
  end)
end

local function connect_and_talk(server, random, kind)
  local stream <close> = server:connect(random, kind == "rude")
  clients[kind](stream, random)
end

local function one_connection(server, number)
  local random = soak.random(SEED, number)
  local kind = random:choose(KINDS)
  local ok, err = moonloop.pcall(connect_and_talk, server, random, kind)
  if ok or kind == "rude" and soak.is_gone(err) then return end
  verdict:fail("connection %d (%s): %s", number, kind, tostring(err))
end

local function one_round(server, first, last)
  local next_number = first
  moonloop.task_group(function(group)
    for _ = 1, AT_A_TIME do
      group:create_task(function()
        while next_number <= last do
          local number = next_number
          next_number = next_number + 1
          one_connection(server, number)
        end
      end)
    end
  end)
end

soak.run {
  name = "short connections", rounds = ROUNDS, longest = LONGEST, bounds = BOUNDS,
  verdict = verdict,
  echoed = function() return echoed end,
  round = function(server, number)
    local each = CONNECTIONS // ROUNDS
    one_round(server, (number - 1) * each + 1, number * each)
    return each
  end,
}

-- SPDX-License-Identifier: MIT
-- Soak: 10,000 connections at once, in rounds. When all are open some are left undisturbed and
-- must get back every byte, while the client or the server aborts, closes or is cancelled at a
-- random point on the others. After each round no descriptor or task is left on either side, the
-- bytes echoed on both sides are equal, and in the end memory is flat.
--
--   build/moonloop spec/soak/many_connections.lua [connections] [seed]
package.path = "./?.lua;" .. package.path

local moonloop = require "moonloop"
local soak = require "spec.support.soak"

local CONNECTIONS = math.tointeger(tonumber(arg[1] or 10000))
local SEED = math.tointeger(tonumber(arg[2] or 2))
local ROUNDS = 8
local CONNECTING = 1000 -- at a time, so that the server's queue never overflows
local LONGEST = 100 -- seconds for all of it
-- KiB of growth. What the process once had from the system it keeps, so its memory is that of the
-- busiest moment so far; 300 bytes that each connection left behind would be seen, 20 in Lua.
local BOUNDS = { memory = 8192, heap = 512 }

local KINDS = {
  { "echo", 50 }, { "leave", 20 }, { "abort", 10 }, { "close", 10 }, { "cancel", 10 },
}

local verdict = soak.verdict()
local echoed = 0 -- bytes on undisturbed connections
local slots = moonloop.Semaphore(CONNECTING)

-- A sum in one expression with an await would lose what others add meanwhile.
local function count_echo(bytes)
  echoed = echoed + bytes
end

-- One payload there and back: its size, nil at end of file.
local function exchange(stream, random, least)
  local payload = random:payload(random:integer(least or 1, 2000))
  stream:write(payload)
  local got = stream:readexactly(#payload)
  assert(not got or got == payload, "other bytes came back")
  return got and #payload
end

local FIRST = 2000 -- bytes at most that go there and back before all are open

local headers = {}

function headers.echo() return "echo\n" end

function headers.leave() return "leave\n" end

headers.cancel = headers.leave

function headers.abort(random) return ("abort %d\n"):format(FIRST + random:integer(0, 6000)) end

function headers.close(random) return ("close %d\n"):format(FIRST + random:integer(0, 6000)) end

-- What happens on a connection once all are open.
local endings = {}

function endings.echo(stream, random)
  for _ = 1, 3 do count_echo(exchange(stream, random)) end
  stream:write_eof()
  assert(stream:read() == "", "there is more than was sent")
end

function endings.leave(stream, random)
  local step = random:integer(1, 3)
  if step >= 2 then stream:write(random:payload(random:integer(1, 10000))) end
  if step >= 3 then stream:read(random:integer(1, 10000)) end
  if random:integer(1, 2) == 1 then stream:abort() end
end

function endings.cancel(stream, random)
  moonloop.move_on_after(random:integer(0, 1000) / 1000, function()
    while true do assert(exchange(stream, random)) end
  end)
end

-- The server leaves after some bytes.
local function until_gone(stream, random)
  local ok, err = moonloop.pcall(function()
    while exchange(stream, random, 1000) do end
  end)
  if not ok and not soak.is_gone(err) then error(err, 0) end
end

endings.abort, endings.close = until_gone, until_gone

local function connect(server, random)
  local _ <close> = slots:acquire()
  return server:connect(random)
end

-- What the connections of a round wait for together.
local function new_round()
  return { open = 0, all_open = moonloop.Event() }
end

local function arrive(round)
  round.open = round.open + 1
  if round.open == CONNECTIONS then round.all_open:set() end
end

local function connect_and_talk(server, round, random, kind)
  local stream <close> = connect(server, random)
  stream:write(headers[kind](random))
  local count = exchange(stream, random)
  if kind == "echo" then count_echo(count) end
  arrive(round)
  round.go:await()
  endings[kind](stream, random)
end

local function one_connection(server, round, number)
  local random = soak.random(SEED, number)
  local kind = random:choose(KINDS)
  local ok, err = moonloop.pcall(connect_and_talk, server, round, random, kind)
  if ok then return end
  verdict:fail("connection %d (%s): %s", number, kind, tostring(err))
  arrive(round)
end

local function one_round(server, number)
  local round = new_round()
  round.go = moonloop.Future()
  moonloop.task_group(function(group)
    for i = 1, CONNECTIONS do
      group:create_task(one_connection, server, round, number * CONNECTIONS + i)
    end
    round.all_open:wait()
    round.most = server:ask(true).most
    round.go:set_result()
  end)
  verdict:equal(CONNECTIONS, round.most, "connections open at once")
end

soak.run {
  name = "many connections", rounds = ROUNDS, longest = LONGEST, bounds = BOUNDS,
  verdict = verdict, descriptors = CONNECTIONS + 100,
  echoed = function() return echoed end,
  round = function(server, number)
    one_round(server, number)
    return CONNECTIONS .. " at once"
  end,
}

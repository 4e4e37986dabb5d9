-- SPDX-License-Identifier: MIT
-- The server of the soak programs, in a process of its own. The first line of a connection says
-- what to do: "echo" (all that comes; counted), "leave" (the same for a client that will break
-- off; not counted), "abort N" or "close N" (after N bytes or more). At a second port it is rude:
-- it leaves at once. Prints both ports and that of its control connection, which asks for figures
-- after that many connections.
package.path = "./?.lua;" .. package.path

local moonloop = require "moonloop"
local soak = require "spec.support.soak"

local LONGEST = 250 -- seconds until it ends in any case
local SEED = 4

local counts = { open = 0, most = 0, served = 0, echoed = 0, errors = 0, refused = 0 }

local function echo(stream, count)
  for data in stream:chunks() do
    stream:write(data)
    if count then counts.echoed = counts.echoed + #data end
  end
end

-- Echoes until `most` bytes have come.
local function echo_some(stream, most)
  local total = 0
  while total < most do
    local data = stream:read(65536)
    if not data then return end
    stream:write(data)
    total = total + #data
  end
end

local function talk(stream)
  local kind, number = (stream:readline() or ""):match("^(%l+) ?(%d*)\n$")
  if kind == "echo" then
    echo(stream, true)
  elseif kind == "leave" then
    echo(stream, false)
  elseif kind == "abort" then
    echo_some(stream, tonumber(number))
    stream:abort()
  elseif kind == "close" then
    echo_some(stream, tonumber(number))
  end
end

-- Runs `fn(stream)`; a client that has gone is nothing to tell.
local function serve(fn)
  return function(stream)
    counts.served = counts.served + 1
    counts.open = counts.open + 1
    counts.most = math.max(counts.most, counts.open)
    local _ <close> = moonloop.defer(function() counts.open = counts.open - 1 end)
    local ok, err = moonloop.pcall(fn, stream)
    if ok or soak.is_gone(err) then return end
    counts.errors = counts.errors + 1
    error(err, 0)
  end
end

local function leave(stream)
  local random = soak.random(SEED, counts.served)
  local way = random:choose { { "abort", 40 }, { "close", 30 }, { "read", 30 } }
  if way == "read" then stream:read(random:integer(1, 100)) end
  if way ~= "close" then stream:abort() end
end

local function figures(mark)
  local parts = {}
  for name, number in pairs(counts) do parts[#parts + 1] = name .. "=" .. number end
  for name, number in pairs(soak.holdings(mark)) do parts[#parts + 1] = name .. "=" .. number end
  return table.concat(parts, " ") .. "\n"
end

-- Answers the control connection until it ends.
local function answer(stream)
  local mark = moonloop.testing.mark()
  for line in stream:lines() do
    local served = tonumber(line)
    if served > 0 then
      soak.wait_until(function() return counts.served >= served and counts.open == 0 end)
      moonloop.testing.wait_all_blocked()
    end
    stream:write(figures(mark))
    counts.most = counts.open
  end
end

local function main()
  local _ <close> = moonloop.timeout(LONGEST)
  local before = moonloop.testing.mark()
  local server = moonloop.start_server(serve(talk), nil, 0)
  local rude = moonloop.start_server(serve(leave), nil, 0)
  local ended = moonloop.Future()
  local control = moonloop.start_server(function(stream)
    local _ <close> = moonloop.defer(function() ended:set_result() end)
    answer(stream)
  end, "127.0.0.1", 0)
  print(server:port(), rude:port(), control:port())
  io.stdout:flush()
  ended:await()
  local forced = 0
  for _, one in ipairs { server, rude, control } do
    local _, cancelled, aborted = one:shutdown { grace = 5 }
    forced = forced + cancelled + aborted
  end
  moonloop.testing.wait_all_blocked()
  local leaks = moonloop.testing.leaks(before)
  for _, leak in ipairs(leaks) do io.stderr:write("LEFT OPEN: ", tostring(leak), "\n") end
  return #leaks + forced + counts.errors == 0
end

moonloop.exit(main() and 0 or 1)

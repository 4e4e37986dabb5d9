-- SPDX-License-Identifier: MIT
-- Much data both ways at the same time over one connection, written and read in pieces of random
-- sizes by a mix of methods: every byte comes, in its place. One direction doesn't hold up the
-- other, and many writers take turns.
local moonloop = require "moonloop"
local delivery = require "spec.support.delivery"
local net = require "spec.support.net"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local MIB = 1024 * 1024
local BOTH_WAYS = { "TCP", "a socketpair" }

-- ---- data that can be checked ------------------------------------------------

-- Random bytes that repeat with a period, of which any piece up to the period can be had.
local function pattern(period, random)
  local words = {}
  for i = 1, period // 8 + 1 do words[i] = string.pack("<i8", random(math.mininteger, -1)) end
  local once = table.concat(words):sub(1, period)
  return { period = period, text = once .. once }
end

-- The `size` bytes that stand at `position`, counted from 0.
local function slice(data, position, size)
  local first = position % data.period
  return data.text:sub(first + 1, first + size)
end

-- ---- writing and reading -----------------------------------------------------

-- Each writes one piece, given in two halves.
local WRITES = {
  function(s, a, b) s:write(a, b) end,
  function(s, a, b) s:write(a .. b) end,
  function(s, a, b) s:writelines({ a, "", b }) end,
  function(s, a, b)
    if not s:try_write(a, b) then s:write(a, b) end
  end,
  function(s, a, b)
    s:write(a, b)
    s:drain()
  end,
}

-- Small sizes as well as large ones.
local function random_size(random, largest)
  return random(1, random(1, 3) == 1 and 100 or largest)
end

local function send(stream, data, total, random)
  local sent = 0
  while sent < total do
    local size = math.min(random_size(random, data.period), total - sent)
    local cut = random(0, size)
    WRITES[random(1, #WRITES)](stream, slice(data, sent, cut), slice(data, sent + cut, size - cut))
    sent = sent + size
  end
  stream:write_eof()
end

-- Each reads something, up to `n` bytes where it has a choice, `left` at most.
local READS = {
  function(s, n) return s:read(n) end,
  function(s, n) return s:chunks(n)() end,
  function(s, n, left) return s:readexactly(math.min(n, left)) end,
  function(s) return s:readline() end,
  function(s, n)
    local seen = s:peek(n)
    assert(s:readexactly(#seen) == seen, "peek saw other bytes than were read")
    return seen
  end,
}

local function receive(stream, data, total, random)
  local got = 0
  while got < total do
    local piece = READS[random(1, #READS)](stream, random_size(random, data.period), total - got)
    assert(piece, ("the end of file after %d bytes of %d"):format(got, total))
    assert(piece == slice(data, got, #piece), ("wrong bytes after %d"):format(got))
    got = got + #piece
  end
  assert(got == total and stream:read(1) == nil, "more bytes than were sent")
end

-- Both ways at once. Each task has random numbers of its own, so that a seed says it all.
local function transfer(kind, total, period)
  local function numbers(i) return delivery.random(delivery.seed * 10 + i) end
  local link <close> = delivery.link(kind)
  local there, back = pattern(period, numbers(1)), pattern(period, numbers(2))
  moonloop.gather(
    function() send(link.near, there, total, numbers(3)) end,
    function() send(link.far, back, total, numbers(4)) end,
    function() receive(link.near, back, total, numbers(5)) end,
    function() receive(link.far, there, total, numbers(6)) end)
end

-- ---- specs -------------------------------------------------------------------

for _, kind in ipairs(BOTH_WAYS) do
  describe("A connection over " .. kind, function()
    it(("carries 1 MiB both ways at once (SPEC_SEED=%d)"):format(delivery.seed), function()
      transfer(kind, MIB, 32771)
    end)

    it(("carries 100 MiB both ways at once (SPEC_SEED=%d) #load"):format(delivery.seed), function()
      transfer(kind, 100 * MIB, 262147)
    end)

    it("carries data one way while nobody reads the other way", function()
      local link <close> = delivery.link(kind)
      local random = delivery.random(delivery.seed)
      local data = pattern(32771, random)
      local count = net.fill(link.far)
      local stuck = moonloop.create_task(function() link.far:write("at last") end)
      local sender = moonloop.create_task(send, link.near, data, MIB, random)
      receive(link.far, data, MIB, random)
      sender:await()
      assert.is_false(stuck:done())
      net.drain_filled(link.near, count)
      assert.equal("at last", link.near:readexactly(7))
      stuck:await()
    end)

    it("carries a line at a time there and back", function()
      local link <close> = delivery.link(kind)
      local echo = moonloop.create_task(function()
        for line in link.far:lines() do link.far:write(line, "\n") end
      end)
      for i = 1, 500 do
        link.near:write(i, "\n")
        assert.equal(i .. "\n", link.near:readline())
      end
      link.near:write_eof()
      echo:await()
    end)
  end)

  describe("Many tasks that write over " .. kind, function()
    local WRITERS, ROUNDS = 40, 5

    -- A record that shows whose it is, in three strings.
    local function record(round, writer, size)
      return ("%d:%d:"):format(round, writer), ("x"):rep(size), "\n"
    end

    it("take turns in the order in which they came, each record whole", function()
      local link <close> = delivery.link(kind)
      local random = delivery.random(delivery.seed)
      local count, expected, writers = net.fill(link.near), {}, {}
      for i = 1, WRITERS do
        writers[i] = function()
          for round = 1, ROUNDS do
            local size = random_size(random, 20000)
            expected[(round - 1) * WRITERS + i] = ("%d:%d:%d"):format(round, i, size)
            link.near:write(record(round, i, size))
          end
        end
      end
      local all = moonloop.create_task(moonloop.gather, writers)
      net.drain_filled(link.far, count)
      local got = {}
      for n = 1, WRITERS * ROUNDS do
        local head, filler = link.far:readline():match("^(%d+:%d+:)(x+)\n$")
        got[n] = head .. #filler
      end
      assert.same(expected, got, "SPEC_SEED=" .. delivery.seed)
      all:await()
      link.near:write_eof()
      assert.equal("", link.far:read())
    end)

    it("let nobody in front of who waits, however little is still unsent", function()
      local link <close> = delivery.link(kind)
      for i = 1, 20 do
        local text, got = ("x"):rep(600000 + i * 7000), ""
        link.near:write(text)
        local waiting = moonloop.create_task(link.near.write, link.near, "waited")
        while #got < #text do
          got = got .. link.far:read(32768)
          wait_all_blocked()
          if not waiting:done() then assert.is_false(link.near:try_write("pushed in")) end
        end
        waiting:await()
        got = got .. link.far:readexactly(#text + 6 - #got)
        assert.is_true(got == text .. "waited")
      end
    end)
  end)
end

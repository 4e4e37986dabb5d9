-- SPDX-License-Identifier: MIT
-- The limit in every manner of delivery: the same records fit and the same are too long, however
-- the data come; after a LimitOverrunError every method can go on with the data.
local moonloop = require "moonloop"
local delivery = require "spec.support.delivery"
local net = require "spec.support.net"

local LIMIT = 16

-- The calls that look for the end of a record, with the separator of each.
local SEEKERS = {
  { name = "readline", separator = "\n", seek = function(s) return s:readline() end },
  { name = "lines", separator = "\n", seek = function(s)
    local line = s:lines()()
    return line and line .. "\n"
  end },
  { name = "readuntil", separator = "\r\n", seek = function(s) return s:readuntil("\r\n") end },
  { name = "readuntil with a list", separator = "--;", seek = function(s)
    return s:readuntil({ "--;", "never comes" })
  end },
}

-- A LimitOverrunError of `seek`, which names the option and can be acted upon.
local function overrun(seek, stream)
  local err = net.raises("LimitOverrunError", seek, stream)
  assert.matches("limit", err.message, 1, true)
  assert.matches(tostring(LIMIT), err.message, 1, true)
  assert.equal("integer", math.type(err.consumed))
  assert.is_true(err.consumed > 0)
  return err
end

-- A record of any length: what is too long for one call is taken in parts.
local function whole_record(stream, seek)
  local pieces = {}
  while true do
    local ok, got = moonloop.pcall(seek, stream)
    if ok then return table.concat(pieces) .. got end
    assert(moonloop.is_error(got, "LimitOverrunError"), got)
    pieces[#pieces + 1] = stream:readexactly(got.consumed)
  end
end

-- How the data of a record that is too long can be had: each function takes them all.
local WAYS_OUT = {
  ["readexactly"] = function(s, size) return s:readexactly(size) end,
  ["read(n)"] = function(s, size)
    local got = ""
    while #got < size do got = got .. s:read(size - #got) end
    return got
  end,
  ["chunks"] = function(s, size)
    local got = ""
    for piece in s:chunks(5) do
      got = got .. piece
      if #got + 5 > size then break end
    end
    return got .. s:readexactly(size - #got)
  end,
  ["read()"] = function(s) return s:read() end,
  ["another separator"] = function(s)
    local pieces = {}
    for i = 1, 30 do pieces[i] = s:readuntil(",") end
    return table.concat(pieces) .. s:read()
  end,
  ["peek and read"] = function(s, size)
    local seen = s:peek(size)
    local got = s:readexactly(size)
    assert.equal(got:sub(1, #seen), seen)
    return got
  end,
}

for _, case in ipairs(delivery.cases()) do
  describe("A Stream with a limit, whose data come " .. case.name, function()
    for _, seeker in ipairs(SEEKERS) do
      local separator, seek = seeker.separator, seeker.seek
      -- A record of `size` bytes, separator included.
      local function record(size) return ("x"):rep(size - #separator) .. separator end

      it("gives " .. seeker.name .. " a record as long as the limit, none longer", function()
        local data = record(LIMIT) .. record(LIMIT + 1) .. record(LIMIT)
        case:deliver(data, function(s)
          assert.equal(record(LIMIT), seek(s))
          for _ = 1, 2 do overrun(seek, s) end
          assert.equal(record(LIMIT + 1), s:readexactly(LIMIT + 1))
          assert.equal(record(LIMIT), seek(s))
          assert.is_nil(seek(s))
        end, LIMIT)
      end)

      it("lets " .. seeker.name .. " go on after `consumed` bytes, to the separator", function()
        local sizes = { 5, LIMIT + 1, LIMIT + #separator, 3 * LIMIT, 200, #separator, 7 }
        local data, expected = "", {}
        for i, size in ipairs(sizes) do
          expected[i] = record(size)
          data = data .. record(size)
        end
        case:deliver(data, function(s)
          local got = {}
          for i = 1, #sizes do got[i] = whole_record(s, seek) end
          assert.same(expected, got)
          assert.is_nil(s:read(1))
        end, LIMIT)
      end)
    end

    for name, take in pairs(WAYS_OUT) do
      it("lets " .. name .. " have the data of an overrun", function()
        local data = ("ab,"):rep(30) .. "end.\n"
        case:deliver(data, function(s)
          overrun(s.readline, s)
          assert.equal(data, take(s, #data))
          assert.is_nil(s:read(1))
        end, LIMIT)
      end)
    end

    it("gives a last line as long as the limit without its end, none longer", function()
      for size = LIMIT - 1, LIMIT do
        case:deliver(("x"):rep(size), function(s)
          assert.equal(("x"):rep(size), s:readline())
          assert.is_nil(s:readline())
        end, LIMIT)
      end
      case:deliver(("x"):rep(LIMIT + 1), function(s)
        overrun(s.readline, s)
        assert.equal(("x"):rep(LIMIT + 1), s:read())
      end, LIMIT)
    end)

    it("does not bind read, readexactly, chunks and peek by the limit", function()
      local data = net.text(5000)
      case:deliver(data, function(s)
        assert.equal(data:sub(1, 2000), s:readexactly(2000))
        local got = s:read(1000)
        got = got .. s:readexactly(1000 - #got)
        assert.equal(data:sub(2001, 3000), got)
        local seen = s:peek(100000)
        assert.equal(data:sub(3001, 3000 + #seen), seen)
        assert.equal(data:sub(3001), s:read())
      end, LIMIT)
    end)
  end)
end

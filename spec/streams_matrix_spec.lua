-- SPDX-License-Identifier: MIT
-- Every reading method with the same data in every manner of delivery: over TCP, a socketpair and
-- a FIFO, one byte at a time, in random pieces and all at once, while a task reads and before one
-- does. What is read depends on the data alone.
local moonloop = require "moonloop"
local delivery = require "spec.support.delivery"

local TEXT = table.concat({
  "first line\n", "\n", "\r\n", "third\0\255 line\n", ("long "):rep(20), "\n", "no end",
})

-- ---- words for what is read --------------------------------------------------

-- The values of `next()` until nil.
local function all(next)
  local list = {}
  for value in next do list[#list + 1] = value end
  return list
end

-- The data of `next()` until nil; each piece has one byte at least and `n` at most.
local function joined(n, next)
  local list = all(next)
  for _, piece in ipairs(list) do
    assert(#piece >= 1 and #piece <= n, ("a piece of %d bytes for %d"):format(#piece, n))
  end
  return table.concat(list)
end

-- What `fn(...)` gives; of an Error its kind and what it tells about the data.
local function outcome(fn, ...)
  local ok, got = moonloop.pcall(fn, ...)
  if ok then return got end
  assert(moonloop.is_error(got), got)
  return { kind = got.kind, partial = got.partial, expected = got.expected }
end

-- The records that readuntil gives, and how it ended, if not with nil.
local function records(stream, separators)
  local list = {}
  while true do
    local got = outcome(stream.readuntil, stream, separators)
    list[#list + 1] = got
    if type(got) ~= "string" then return list end
  end
end

-- What follows the last record.
local function rest(text)
  return { kind = "IncompleteReadError", partial = text }
end

-- ---- scenarios ---------------------------------------------------------------

-- Each reads `data` (TEXT) by `read(stream)`, which has to return `expect`.
local SCENARIOS = {
  {
    name = "gives all of it to read(), then \"\"",
    read = function(s) return { s:read(), s:read(), s:at_eof() } end,
    expect = { TEXT, "", true },
  },
  {
    name = "gives read() what other methods left",
    read = function(s) return { s:readline(), s:readexactly(1), s:read(), s:at_eof() } end,
    expect = { "first line\n", "\n", TEXT:sub(13), true },
  },
  {
    name = "gives readexactly its bytes, and a part at the end as an error",
    data = "abcdefghijklmno",
    read = function(s)
      local list = {}
      for i, n in ipairs({ 1, 0, 7, 2, 3, 9 }) do list[i] = outcome(s.readexactly, s, n) end
      return { list, s:readexactly(4) == nil, s:read(1) == nil, s:at_eof() }
    end,
    expect = {
      { "a", "", "bcdefgh", "ij", "klm",
        { kind = "IncompleteReadError", partial = "no", expected = 9 } }, true, true, true,
    },
  },
  {
    name = "gives readexactly nil when the end falls between two calls",
    data = "abcdef",
    read = function(s)
      return { s:readexactly(4), s:readexactly(2), s:readexactly(2) == nil, s:readexactly(0) }
    end,
    expect = { "abcd", "ef", true, "" },
  },
  {
    name = "gives readline the lines with their ends",
    read = function(s) return all(function() return s:readline() end) end,
    expect = { "first line\n", "\n", "\r\n", "third\0\255 line\n", ("long "):rep(20) .. "\n",
      "no end" },
  },
  {
    name = "gives lines the lines without their ends",
    read = function(s) return all(s:lines()) end,
    expect = { "first line", "", "\r", "third\0\255 line", ("long "):rep(20), "no end" },
  },
  {
    name = "gives lines no last empty line when the data end with a newline",
    data = "a\n\n",
    read = function(s) return all(s:lines()) end,
    expect = { "a", "" },
  },
  {
    name = "gives readuntil what ends with a newline when it is asked for nothing else",
    read = function(s) return #records(s) end,
    expect = 6,
  },
  {
    name = "gives readuntil records with a separator that begins like itself",
    data = "one\r\n\r\r\n\r\n\r\n\r\n\r\n\r",
    read = function(s) return records(s, "\r\n\r\n") end,
    expect = { "one\r\n\r\r\n\r\n", "\r\n\r\n", rest("\r\n\r") },
  },
  {
    name = "ends readuntil at the first of two separators that overlap in the data",
    data = "abababaaabab",
    read = function(s) return records(s, "abab") end,
    expect = { "abab", "abaaabab" },
  },
  {
    name = "ends readuntil at the separator that ends first, be it the shorter one",
    data = "x\ry\r\nz-->w--",
    read = function(s) return records(s, { "\r\n", "\r", "-->", "--" }) end,
    expect = { "x\r", "y\r", "\nz--", ">w--" },
  },
  {
    name = "ends readuntil within a longer separator that has begun before",
    data = "1abcd2abc3bcd4",
    read = function(s) return records(s, { "abcd", "bc" }) end,
    expect = { "1abc", "d2abc", "3bc", rest("d4") },
  },
  {
    name = "goes on with the longer separator when the shorter one does not come",
    data = "aab1aaab2aaaa",
    read = function(s) return records(s, { "aaab", "b1", "a2" }) end,
    expect = { "aab1", "aaab", rest("2aaaa") },
  },
  {
    name = "takes separators of any bytes",
    data = "a\0b\0\0c\255\n",
    read = function(s) return records(s, { "\0\0", "\255" }) end,
    expect = { "a\0b\0\0", "c\255", rest("\n") },
  },
  {
    name = "has no end of file while bytes are left",
    data = "abc",
    read = function(s)
      local got = {}
      for i = 1, 3 do
        s:peek(1)
        got[i] = s:at_eof()
        s:read(1)
      end
      return { got, s:read(1) == nil, s:at_eof() }
    end,
    expect = { { false, false, false }, true, true },
  },
  {
    name = "lets every method go on where the one before left off",
    data = "HTTP/1.1 200 OK\r\nLength: 5\r\n\r\nhello1,2;3\nlast\nof all",
    read = function(s)
      local next_line = s:lines()
      return { s:readexactly(5), s:readuntil({ " ", "\r\n" }), s:peek(1), s:readline(),
        s:readuntil("\r\n\r\n"), s:readexactly(5), s:read(1), s:chunks(1)(), s:readuntil({ ";" }),
        next_line(), next_line(), s:peek(1), s:read(), s:peek(1) == nil, next_line() == nil }
    end,
    expect = { "HTTP/", "1.1 ", "2", "200 OK\r\n", "Length: 5\r\n\r\n", "hello", "1", ",", "2;",
      "3", "last", "o", "of all", true, true },
  },
}

for _, n in ipairs({ 1, 3, 100, 100000 }) do
  SCENARIOS[#SCENARIOS + 1] = {
    name = ("gives read(%d) pieces that make it up, then nil"):format(n),
    read = function(s)
      return { joined(n, function() return s:read(n) end), s:read(n) == nil, s:at_eof() }
    end,
    expect = { TEXT, true, true },
  }
  SCENARIOS[#SCENARIOS + 1] = {
    name = ("gives chunks(%d) pieces that make it up"):format(n),
    read = function(s) return { joined(n, s:chunks(n)), s:at_eof() } end,
    expect = { TEXT, true },
  }
  SCENARIOS[#SCENARIOS + 1] = {
    name = ("gives peek(%d) what the next read takes"):format(n),
    read = function(s)
      return joined(n, function()
        local seen = s:peek(n)
        if not seen then return nil end
        local again = s:peek(n)
        assert(again:sub(1, #seen) == seen and #again <= n, "peek changed its mind")
        assert(s:readexactly(#seen) == seen, "peek saw other bytes than were read")
        return seen
      end)
    end,
    expect = TEXT,
  }
end

for _, case in ipairs(delivery.cases()) do
  describe("A Stream whose data come " .. case.name, function()
    for _, scenario in ipairs(SCENARIOS) do
      it(scenario.name, function()
        assert.same(scenario.expect, case:deliver(scenario.data or TEXT, scenario.read))
      end)
    end
  end)
end

-- ---- random separators -------------------------------------------------------

-- Where the first separator in `data` ends, looking from `first`.
local function first_end(data, first, separators)
  local found
  for _, separator in ipairs(separators) do
    local _, last = data:find(separator, first, true)
    if last and (not found or last < found) then found = last end
  end
  return found
end

-- What readuntil has to give, by the plain search of Lua.
local function expected(data, separators)
  local list, first = {}, 1
  for last in function() return first_end(data, first, separators) end do
    list[#list + 1] = data:sub(first, last)
    first = last + 1
  end
  if first <= #data then list[#list + 1] = rest(data:sub(first)) end
  return list
end

local function random_word(random, size)
  local letters = {}
  for i = 1, size do letters[i] = random(1, 2) == 1 and "a" or "b" end
  return table.concat(letters)
end

describe("Stream:readuntil with random separators", function()
  for _, case in ipairs(delivery.cases()) do
    it("ends where a plain search does when data come " .. case.name, function()
      local random = delivery.random(delivery.seed)
      for round = 1, 10 do
        local separators = {}
        for i = 1, random(1, 3) do separators[i] = random_word(random, random(2, 5)) end
        local data = random_word(random, 60)
        local got = case:deliver(data, function(s) return records(s, separators) end)
        assert.same(expected(data, separators), got, ("SPEC_SEED=%d, round %d: {%s} in %s")
          :format(delivery.seed, round, table.concat(separators, ", "), data))
      end
    end)
  end
end)

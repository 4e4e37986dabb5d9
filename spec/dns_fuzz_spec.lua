-- SPDX-License-Identifier: MIT
-- Packets that nobody would send, for the reader of DNS answers: right ones of which some bytes are
-- changed, lost, doubled or mixed, and random ones. Whatever comes, it gives records that have
-- their fields, or says that there are none. MOONLOOP_FUZZ_SECONDS: how long, instead of so many
-- packets; MOONLOOP_FUZZ_SEED: which, instead of new ones each time.
local moonloop = require "moonloop"
local core = require "moonloop.core" -- the reader itself, parse_answer
local dns_server = require "spec.support.dns_server"
local packet = require "spec.support.dns_packet"

local PACKETS = 2000
local SECONDS = tonumber(os.getenv("MOONLOOP_FUZZ_SECONDS"))
local SEED = math.tointeger(tonumber(os.getenv("MOONLOOP_FUZZ_SEED")))
  or math.random(1 << 30)

local R = math.random

-- Of each type, right answers, as dns_packet.lua takes them.
local function alias(host) return { type = "CNAME", host = host } end

local RIGHT = {
  A = {
    { { host = "192.0.2.1" }, { host = "192.0.2.2" } },
    { alias "b.test", { type = "CNAME", name = "b.test", host = "c.test" },
      { name = "c.test", host = "192.0.2.3" } },
  },
  AAAA = { { { host = "2001:db8::1" } } },
  MX = { { { preference = 10, host = "mail.a.test" }, { preference = 0, host = "." } } },
  TXT = { { { text = { "one", "", ("x"):rep(255) } }, { text = "two" } } },
  SRV = { { { priority = 1, weight = 2, port = 3, host = "x.y.z.test" } } },
  NS = { { { host = "ns.a.test" }, additional = { { type = "A", host = "192.0.2.1" } } } },
  PTR = { { { host = "p.test" } } },
  CNAME = { { { host = "other.test" } } },
  SOA = { { {
    mname = "ns.a.test", rname = "root.a.test", serial = 4294967295, refresh = 1, retry = 2,
    expire = 3, minimum = 4,
  } } },
  CAA = { { { flags = 128, tag = "issue", value = "ca.test" } } },
}

-- What a record of each type has, next to `ttl`.
local FIELDS = {
  A = { host = "string" }, AAAA = { host = "string" }, MX = { preference = 16, host = "string" },
  TXT = { text = "string" }, SRV = { priority = 16, weight = 16, port = 16, host = "string" },
  NS = { host = "string" }, PTR = { host = "string" }, CNAME = { host = "string" },
  SOA = { mname = "string", rname = "string", serial = 32, refresh = 32, retry = 32, expire = 32,
    minimum = 32 },
  CAA = { flags = 8, tag = "string", value = "string" },
}

local TYPES, PACKED = {}, {}
for type, replies in pairs(RIGHT) do
  TYPES[#TYPES + 1] = type
  PACKED[type] = {}
  for i, reply in ipairs(replies) do
    PACKED[type][i] = packet.reply({ id = 1, name = "a.test", type = type }, reply)
  end
end
table.sort(TYPES)

-- ---- changing packets --------------------------------------------------------

local function put(bytes, at, new)
  return bytes:sub(1, at - 1) .. new .. bytes:sub(at + #new)
end

local function random_bytes(count)
  local list = {}
  for i = 1, count do list[i] = string.char(R(0, 255)) end
  return table.concat(list)
end

-- Bytes that mean something somewhere: ends of names, pointers, counts, sizes.
local TELLING = {
  "\0", "\1", "\63", "\64", "\127", "\128", "\191", "\255", "\xC0\x00", "\xC0\x0C", "\xC0\xFF",
  "\xFF\xFF", "\0\0", "\0\1", "\0\5", "\0\16", "\0\28", "\1\1", "\255\255\255\255",
}

local CHANGES = {
  function(bytes) return put(bytes, R(#bytes), string.char(R(0, 255))) end,
  function(bytes)
    local at = R(#bytes)
    return put(bytes, at, string.char(bytes:byte(at) ~ 1 << R(0, 7)))
  end,
  function(bytes) return put(bytes, R(#bytes), TELLING[R(#TELLING)]) end,
  function(bytes) return put(bytes, R(#bytes), string.pack(">I2", 0xC000 | R(0, #bytes))) end,
  function(bytes) return put(bytes, 2 * R(3, 6) - 1, string.pack(">I2", R(0, 300))) end,
  function(bytes) return bytes:sub(1, R(0, #bytes)) end,
  function(bytes)
    local from = R(#bytes)
    return bytes:sub(1, from - 1) .. bytes:sub(from + R(8))
  end,
  function(bytes)
    local at = R(#bytes)
    return bytes:sub(1, at) .. random_bytes(R(20)) .. bytes:sub(at + 1)
  end,
  function(bytes)
    local from = R(#bytes)
    local piece = bytes:sub(from, from + R(40))
    return bytes .. piece
  end,
  function(bytes)
    local other = PACKED[TYPES[R(#TYPES)]][1]
    return bytes:sub(1, R(#bytes)) .. other:sub(R(#other))
  end,
  function(bytes) return bytes:sub(1, 12) .. random_bytes(R(0, 60)) end,
}

local function changed(bytes)
  for _ = 1, R(4) do
    if #bytes < 12 then break end
    bytes = CHANGES[R(#CHANGES)](bytes)
  end
  return bytes
end

-- ---- judging what is read ----------------------------------------------------

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function is_field(value, want)
  if want == "string" then return type(value) == "string" end
  return math.type(value) == "integer" and value >= 0 and value < 1 << want
end

-- What is wrong with the record, if anything.
local function wrong_with(kind, record)
  if not is_field(record.ttl, 31) then return "ttl" end
  for name, want in pairs(FIELDS[kind]) do
    if not is_field(record[name], want) then return name end
  end
  for name in pairs(record) do
    if name ~= "ttl" and not FIELDS[kind][name] then return name end
  end
  if kind == "A" and not record.host:match("^%d+%.%d+%.%d+%.%d+$") then return "host" end
  if kind == "AAAA" and not record.host:match("^[%x:.]+$") then return "host" end
end

-- How often each came: "records" or a code.
local function judge(counts, kind, list, code)
  if list == nil then
    assert(code == "BADRESP" or code == "NODATA", "the code is " .. tostring(code))
    counts[code] = (counts[code] or 0) + 1
    return
  end
  assert(#list > 0, "an empty list")
  for _, record in ipairs(list) do
    local wrong = wrong_with(kind, record)
    assert(not wrong, wrong)
  end
  counts.records = (counts.records or 0) + 1
end

-- Lets the reader have `bytes`, and says with which it failed.
local function try(counts, kind, bytes)
  local ok, err = pcall(function()
    judge(counts, kind, core.parse_answer(bytes, kind))
  end)
  if not ok then
    error(("MOONLOOP_FUZZ_SEED=%d, %s, packet %s: %s"):format(SEED, kind, hex(bytes), err), 0)
  end
end

-- Whether there are to be more than `count` packets, of which the first was made at `begun`.
local function more(count, begun)
  if SECONDS then return os.clock() - begun < SECONDS end
  return count < PACKETS
end

describe("The reader of DNS answers", function()
  before_each(function() math.randomseed(SEED) end)

  it("takes right ones", function()
    local counts, total = {}, 0
    for _, kind in ipairs(TYPES) do
      for _, bytes in ipairs(PACKED[kind]) do
        try(counts, kind, bytes)
        total = total + 1
      end
    end
    assert.same({ records = total }, counts)
  end)

  it("gives records or a code for every beginning of a right one", function()
    local counts = {}
    for _, kind in ipairs(TYPES) do
      local whole = PACKED[kind][1]
      for size = 0, #whole - 1 do try(counts, kind, whole:sub(1, size)) end
    end
    assert.is_true(counts.BADRESP > 100)
    assert.is_nil(counts.NODATA)
  end)

  it("gives records or a code for changed ones", function()
    local counts, count, begun = {}, 0, os.clock()
    while more(count, begun) do
      local kind = TYPES[R(#TYPES)]
      local list = PACKED[kind]
      try(counts, kind, changed(list[R(#list)]))
      count = count + 1
    end
    for _, what in ipairs { "records", "BADRESP", "NODATA" } do -- else they aren't changed well
      assert.is_true((counts[what] or 0) > count // 500, ("%s: %s of %d, MOONLOOP_FUZZ_SEED=%d")
        :format(what, counts[what], count, SEED))
    end
  end)

  it("gives records or a code for one that was meant for another type", function()
    local counts = {}
    for _, kind in ipairs(TYPES) do
      for _, other in ipairs(TYPES) do
        if kind ~= other then try(counts, kind, PACKED[other][1]) end
      end
    end
    assert.same({ NODATA = #TYPES * (#TYPES - 1) }, counts)
  end)

  it("gives a code for random bytes", function()
    local counts = {}
    for size = 0, 300 do try(counts, TYPES[R(#TYPES)], random_bytes(size)) end
    assert.is_true((counts.BADRESP or 0) > 200)
  end)

  it("ends with packets full of pointers, of the largest size", function()
    local counts = {}
    local head = packet.reply({ id = 1, name = "a.test", type = "A" }, { count = 65535 })
    for _, unit in ipairs { "\xC0\x0C", "\xC0\x18", "\1a\xC0\x18", "\63" .. ("a"):rep(63),
      "\xC0\x0C\0\1\0\1\0\0\0\0\0\0", "\xC0\x0C\0\5\0\1\0\0\0\0\0\2\xC0\x0C" } do
      try(counts, "A", (head .. unit:rep(65535 // #unit)):sub(1, 65535))
    end
    assert.is_nil(counts.records)
  end)
end)

describe("dns.resolve", function()
  local CODES = {
    NXDOMAIN = true, NODATA = true, SERVFAIL = true, REFUSED = true, FORMERR = true, NOTIMP = true,
    BADRESP = true,
  }

  -- Pieces of names, right ones and such as mean something in files and packets.
  local PIECES = {
    "a", "b.", ".", "..", "test", "\\", "\\.", "\\046", "\\300", "\\0", "\0", "\255", " ", "\n",
    "_", "-", "*", "@", "%", "1.2.3", "::", "/", "xn--", ("x"):rep(63), ("y"):rep(64), "\xC0\x0C",
  }

  it("and getaddrinfo end with a DNSError for a name like none", function()
    math.randomseed(SEED)
    local server <close> = dns_server.start():use()
    for round = 1, 150 do
      local pieces = {}
      for i = 1, R(5) do pieces[i] = PIECES[R(#PIECES)] end
      local name = table.concat(pieces) .. "."
      for _, call in ipairs { moonloop.dns.resolve, moonloop.getaddrinfo } do
        local ok, err = pcall(call, name)
        local right = moonloop.is_error(err, "DNSError") and (err.code == "NXDOMAIN"
          or err.code == "EAI_NONAME")
        assert.is_true(not ok and right, ("MOONLOOP_FUZZ_SEED=%d, round %d, %q: %s")
          :format(SEED, round, name, tostring(err)))
      end
    end
    assert.is_true(server:count() > 0)
  end)

  it("goes on whatever comes before the right answer", function()
    math.randomseed(SEED)
    local server <close> = dns_server.start()
    local name = "a.test"
    for round = 1, 40 do
      local kind = TYPES[R(#TYPES)]
      local early, right = {}, RIGHT[kind][1]
      for i = 1, 5 do
        early[i] = { bytes = function(query)
          return string.pack(">I2", query.id) .. changed(packet.reply(query, right)):sub(3)
        end }
      end
      server:on(name, kind, table.move(right, 1, #right, 1, { before = early }))
      local ok, got = pcall(moonloop.dns.resolve, name, kind,
        { servers = { server.address }, timeout = 20 })
      local said = ("MOONLOOP_FUZZ_SEED=%d, round %d: %s"):format(SEED, round, tostring(got))
      if ok then
        for _, record in ipairs(got) do assert.is_nil(wrong_with(kind, record), said) end
      else
        assert.is_true(moonloop.is_error(got, "DNSError") and CODES[got.code], said)
      end
    end
  end)
end)

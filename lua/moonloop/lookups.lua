-- SPDX-License-Identifier: MIT
-- Asking DNS servers: which ones, joining those who ask the same at one time, and
-- what came of it in words.

local core = require "moonloop.core"
local options = require "moonloop.options"
local system_files = require "moonloop.system_files"

local M = {}

local chosen -- by set_servers: list of {host=, port=}, or nil

-- Key -> the Lookup under way. Those who wait for it hold it.
local under_way = setmetatable({}, { __mode = "v" })

-- ---- servers -------------------------------------------------------------------

local function server_of(entry)
  if type(entry) == "table" then return entry.host, entry.port or 53 end
  if type(entry) ~= "string" then return nil end
  if core.numeric_host(entry) then return entry, 53 end
  local host, port = entry:match("^%[(.*)%]$"), 53
  if not host then host, port = entry:match("^%[(.*)%]:(%d+)$") end
  if not host then host, port = entry:match("^([^:]*):(%d+)$") end
  return host, math.tointeger(tonumber(port))
end

local SERVER = { host = "string", port = "number" }

local function refuse_server(position, name, entry)
  local text = type(entry) == "string" and "'" .. entry .. "'" or options.type_name(entry)
  if type(entry) == "table" then
    text = ("{host=%s, port=%s}"):format(tostring(entry.host), tostring(entry.port))
  end
  options.bad_argument(position, name,
    ("%s is no DNS server: 'host:port' or {host=, port=} with a numeric host expected")
      :format(text))
end

--- Gives a list of servers as {host=, port=}; raises for what is none.
function M.check_servers(position, name, list)
  options.check_type(position, name, list, "table")
  local servers = {}
  for i, entry in ipairs(list) do
    if type(entry) == "table" then options.check(position, name, entry, SERVER) end
    local host, port = server_of(entry)
    port = math.tointeger(port)
    if not host or not core.numeric_host(host) or not port or port < 1 or port > 65535 then
      refuse_server(position, name, entry)
    end
    servers[i] = { host = host, port = port }
  end
  if #servers == 0 then options.bad_argument(position, name, "the list of servers is empty") end
  return servers
end

--- Sets which servers are asked from now on; nil: those of resolv.conf.
function M.set_servers(list) chosen = list end

local turns = 0

-- For `options rotate`: each look-up begins with the next server.
local function rotated(servers)
  turns = turns + 1
  local list = {}
  for i = 1, #servers do list[i] = servers[(i + turns) % #servers + 1] end
  return list
end

-- ---- asking --------------------------------------------------------------------

local function key_of(label, name, types, servers, timeout)
  local parts = { label, name:lower(), table.concat(types, "+"), tostring(timeout) }
  for _, server in ipairs(servers) do parts[#parts + 1] = server.host .. "]" .. server.port end
  return table.concat(parts, "\0")
end

local function numbers_of(types)
  local numbers = {}
  for i, type in ipairs(types) do numbers[i] = core.record_type(type) end
  return numbers
end

-- The seconds of the first try and the number of tries that fill a time limit: c-ares
-- doubles the time of each further one.
local function tries_within(timeout, config, count)
  local try = math.min(config.timeout, timeout / (3 * count))
  return try, math.max(2, math.ceil(math.log(timeout / (try * count) + 1, 2)))
end

local function begin(label, name, types, servers, config, timeout)
  local try, tries, limit = config.timeout, config.tries, timeout
  if timeout then
    try, tries = tries_within(timeout, config, #servers)
  else
    limit = try * tries * #servers
  end
  if config.rotate then servers = rotated(servers) end
  return core.lookup(M.for_wire(name), label, numbers_of(types), servers, try, tries, limit)
end

-- Of each type the list of records, or nil, the status.
local function read_answers(types, answers)
  local results = {}
  for i, type in ipairs(types) do
    local status, bytes = answers[2 * i - 1], answers[2 * i]
    local result = { code = status }
    if status == "OK" then
      local list, more = core.parse_answer(bytes, type)
      result = list and { records = list, name = more } or { code = more }
    end
    results[i] = result
  end
  return results
end

--- Asks for the records of a name. Awaits.
-- @param label string: what the inspector shows, and errors begin with
-- @param name string, complete
-- @param types list of one or two, "A"
-- @param[opt] opts table: `servers` (list of {host=, port=}), `timeout` (seconds)
-- @return list with, for each type, {records=, name= (whose they are)} or {code=}
-- @raise OSError, code EMFILE, when descriptors are out
function M.ask(label, name, types, opts)
  local config = system_files.resolv_conf()
  local servers = opts and opts.servers or chosen or config.servers
  local timeout = opts and opts.timeout
  local key = key_of(label, name, types, servers, timeout)
  local lookup = under_way[key]
  if not lookup or lookup:ended() then
    lookup = begin(label, name, types, servers, config, timeout)
    under_way[key] = lookup
  end
  local answers = table.pack(lookup:wait())
  if under_way[key] == lookup then under_way[key] = nil end
  return read_answers(types, answers)
end

-- ---- names ---------------------------------------------------------------------

-- Calls `fn` for each byte that a name gives by its number, "\032" (nil for one that is
-- too short), and puts what it returns in its place.
local function each_number(name, fn)
  return (name:gsub("\\(.)(%d?%d?)", function(first, rest)
    if first:find("%d") then return fn(#rest == 2 and tonumber(first .. rest) or nil) end
  end))
end

--- Gives a name as c-ares takes it, which knows "\." and the like but no numbers.
function M.for_wire(name)
  return each_number(name, function(number)
    local char = string.char(number)
    return (char == "." or char == "\\") and "\\" .. char or char
  end)
end

--- Says what keeps a text from being the name of a host, or nil.
function M.wrong_with(name)
  if name == "." then return nil end
  local wrong_escape
  local bare = each_number(name, function(number)
    wrong_escape = wrong_escape or not number or number == 0 or number > 255
    return "x"
  end):gsub("\\.", "x"):gsub("%.$", "")
  if wrong_escape or bare:find("\\", 1, true) then return "there is a wrong escape in it" end
  if bare == "" then return "it is empty" end
  if name:find("\0", 1, true) then return "there is a zero byte in it" end
  if #bare > 253 then return "it is longer than 253 bytes" end
  for label in (bare .. "."):gmatch("([^.]*)%.") do
    if label == "" then return "a part of it is empty" end
    if #label > 63 then return "a part of it is longer than 63 bytes" end
  end
  return nil
end

-- ---- errors --------------------------------------------------------------------

local WORDS = {
  NXDOMAIN = "no such name",
  NODATA = "the name has no record of this type",
  SERVFAIL = "the server failed",
  REFUSED = "the server refuses to answer",
  FORMERR = "the server calls the question malformed",
  NOTIMP = "the server does not know such questions",
  BADRESP = "the answer is malformed",
  ETIMEOUT = "no answer in time",
  ECONNREFUSED = "no server could be reached",
}

--- Gives a status in words.
function M.words(code) return WORDS[code] end

--- Raises the DNSError for what was `op`erated on `host`: "getaddrinfo", "resolve".
-- @param what string: the host and whatever else names it
function M.fail(op, what, host, code, text)
  what = what:gsub("%c", function(c) return ("\\%03d"):format(c:byte()) end)
  error(core.DNSError:new(("%s %s: %s"):format(op, what, text),
    { code = code, host = host }), 0)
end

return M

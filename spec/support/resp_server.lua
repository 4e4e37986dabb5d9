-- SPDX-License-Identifier: MIT
-- A small server of the Redis protocol (RESP 2) on Streams, for redis-benchmark and redis-cli to
-- talk to: strings, lists, pipelining, inline commands. A connection has two tasks: one reads
-- commands for as long as some are at hand, the other sends what has been answered meanwhile in
-- one write.
local moonloop = require "moonloop"

local M = {}

local LONGEST_COMMAND = 1024 -- words
local LONGEST_WORD = 64 * 1024 * 1024 -- bytes
local MOST_ANSWERS = 4096 -- that wait to be sent, before reading rests

local SETTINGS = { save = "", appendonly = "no" }

-- ---- answers -------------------------------------------------------------------

local OK, NOTHING = "+OK\r\n", "$-1\r\n"
local WRONG_TYPE =
  "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"

local function bulk(text)
  return text and ("$%d\r\n%s\r\n"):format(#text, text) or NOTHING
end

local function integer(number)
  return (":%d\r\n"):format(number)
end

local function array(list)
  local parts = { ("*%d\r\n"):format(#list) }
  for i, text in ipairs(list) do parts[i + 1] = bulk(text) end
  return table.concat(parts)
end

local function failure(text)
  return "-ERR " .. text:gsub("[\r\n]", " ") .. "\r\n"
end

-- ---- commands ------------------------------------------------------------------

-- Name -> the least and the greatest number of arguments, and a function of the
-- server and the arguments that gives the answer.
local commands = {}

local function command(name, least, most, fn)
  commands[name] = { least = least, most = most, fn = fn }
end

command("PING", 0, 1, function(_, text) return text and bulk(text) or "+PONG\r\n" end)
command("ECHO", 1, 1, function(_, text) return bulk(text) end)
command("COMMAND", 0, math.huge, function() return array {} end)
command("QUIT", 0, 0, function() return OK, true end)

command("CONFIG", 1, math.huge, function(_, verb, name)
  if verb:upper() ~= "GET" then return failure("unknown subcommand '" .. verb .. "'") end
  local value = name and SETTINGS[name]
  return array(value and { name, value } or {})
end)

command("SET", 2, 2, function(self, key, value)
  self.values[key] = value
  return OK
end)

command("GET", 1, 1, function(self, key)
  local value = self.values[key]
  return type(value) == "table" and WRONG_TYPE or bulk(value)
end)

command("DEL", 1, math.huge, function(self, ...)
  local count = 0
  for _, key in ipairs { ... } do
    if self.values[key] ~= nil then count = count + 1 end
    self.values[key] = nil
  end
  return integer(count)
end)

command("INCR", 1, 1, function(self, key)
  local value = self.values[key] or "0"
  if type(value) == "table" then return WRONG_TYPE end
  local number = value:match("^%-?%d+$") and math.tointeger(tonumber(value))
  if not number or number == math.maxinteger then
    return failure("value is not an integer or out of range")
  end
  self.values[key] = tostring(number + 1)
  return integer(number + 1)
end)

-- A list is a table with the items from `first` to `last`.
local function push(at_head)
  return function(self, key, ...)
    local list = self.values[key] or { first = 1, last = 0 }
    if type(list) == "string" then return WRONG_TYPE end
    self.values[key] = list
    for _, item in ipairs { ... } do
      local at = at_head and list.first - 1 or list.last + 1
      list[at] = item
      list.first, list.last = math.min(list.first, at), math.max(list.last, at)
    end
    return integer(list.last - list.first + 1)
  end
end

command("LPUSH", 2, math.huge, push(true))
command("RPUSH", 2, math.huge, push(false))

command("LPOP", 1, 1, function(self, key)
  local list = self.values[key]
  if list == nil then return NOTHING end
  if type(list) == "string" then return WRONG_TYPE end
  local item = list[list.first]
  list[list.first] = nil
  list.first = list.first + 1
  if list.first > list.last then self.values[key] = nil end
  return bulk(item)
end)

local function carry_out(self, words)
  local name = words[1]:upper()
  local entry = commands[name]
  self.count = self.count + 1
  if not entry then return failure("unknown command '" .. words[1] .. "'") end
  if #words - 1 < entry.least or #words - 1 > entry.most then
    return failure(("wrong number of arguments for '%s' command"):format(name:lower()))
  end
  return entry.fn(self, table.unpack(words, 2))
end

-- ---- reading -------------------------------------------------------------------

-- The number in a line like "$12\r\n"; raises the text of a protocol error.
local function count_in(line, mark, most)
  local digits = line:match("^%" .. mark .. "(%d+)\r?\n$")
  local count = digits and math.tointeger(tonumber(digits))
  if count and count <= most then return count end
  error("Protocol error: expected '" .. mark .. "' and a length", 0)
end

local function read_word(stream)
  local length = count_in(stream:readline() or "", "$", LONGEST_WORD)
  return stream:readexactly(length + 2):sub(1, -3)
end

-- The words of the next command (none for an empty line); nil at end of file.
local function read_command(stream)
  local line = stream:readline()
  if not line then return nil end
  local words = {}
  if line:byte() == 42 then -- "*"
    for i = 1, count_in(line, "*", LONGEST_COMMAND) do words[i] = read_word(stream) end
  else
    for word in line:gmatch("%S+") do words[#words + 1] = word end
  end
  return words
end

-- ---- connections ---------------------------------------------------------------

-- Puts an answer where the sender finds it.
local function answer(connection, text)
  local answers = connection.answers
  answers[#answers + 1] = text
  connection.answered:set()
end

-- Sends all answers there are in one write.
local function send(connection)
  if #connection.answers == 0 then return end
  local text = table.concat(connection.answers)
  connection.answers = {}
  connection.stream:write(text)
end

local function send_answers(connection)
  while true do
    connection.answered:wait()
    connection.answered:clear()
    send(connection)
  end
end

-- Returns when the client is done or has broken the protocol.
local function serve_commands(self, connection)
  while true do
    local ok, words = moonloop.pcall(read_command, connection.stream)
    if not ok and type(words) ~= "string" then error(words, 0) end
    if not ok then answer(connection, failure(words)) end
    if not ok or not words then return send(connection) end
    if words[1] then
      local text, quit = carry_out(self, words)
      answer(connection, text)
      if quit then return send(connection) end
    end
    if #connection.answers >= MOST_ANSWERS then send(connection) end
  end
end

-- Runs `fn` and puts up with a client that has gone.
local function quietly(fn, ...)
  local ok, err = moonloop.pcall(fn, ...)
  local gone = moonloop.is_error(err, "ConnectionError")
    or moonloop.is_error(err, "IncompleteReadError")
  if not ok and not gone then error(err, 0) end
end

local function serve(self, stream)
  local connection = { stream = stream, answers = {}, answered = moonloop.Event() }
  moonloop.task_group(function(group)
    group:create_task(quietly, send_answers, connection)
    quietly(serve_commands, self, connection)
    group:cancel()
  end)
end

--- Makes what a server of Redis commands knows.
-- @return a table with `handle` (for start_server and start_unix_server), `values`
-- (by key) and `count` (of commands carried out)
function M.new()
  local self = { values = {}, count = 0 }
  self.handle = function(stream) serve(self, stream) end
  return self
end

return M

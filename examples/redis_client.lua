-- SPDX-License-Identifier: MIT
-- What: a client for a Redis server: sends commands, one a line, and shows the replies.
-- Why: a protocol of lines and lengths on a Stream. Commands are sent as they come and replies are
--      read meanwhile, so a file of a thousand commands takes the time of one round trip, not of
--      a thousand.
-- Usage: moonloop examples/redis_client.lua [HOST:PORT | /PATH [COMMAND...]]     (127.0.0.1:6379)
--        moonloop examples/redis_client.lua 127.0.0.1:6379 set moon full
--        printf 'set a 1\nincr a\n' | moonloop examples/redis_client.lua
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local resp = require "lib.resp"

local address = arg[1] or "127.0.0.1:6379"
local is_terminal = os.execute("test -t 0") == true

local function connect()
  if address:find("/", 1, true) then
    return moonloop.connect_unix(address)
  end
  local host, port = address:match("^(.*):(%d+)$")
  return moonloop.connect(host or address, tonumber(port or 6379))
end

-- A reply as redis-cli shows it on a terminal.
local function show(reply, indent)
  if reply == nil then
    return "(nil)"
  elseif moonloop.is_error(reply) then
    return "(error) " .. reply.message
  elseif math.type(reply) then
    return "(integer) " .. reply
  elseif type(reply) == "string" then
    return reply == "OK" and reply or ("%q"):format(reply):gsub("\\\n", "\\n")
  elseif reply.n == 0 then
    return "(empty list)"
  end
  local lines = {}
  for i = 1, reply.n do
    lines[i] = ("%s%d) %s"):format(i > 1 and indent or "", i, show(reply[i], indent .. "   "))
  end
  return table.concat(lines, "\n")
end

-- The words of a line; "a word in quotes" is one.
local function words_of(line)
  local words, at = {}, 1
  while true do
    local _, last, word = line:find('^%s*"(.-)"', at)
    if not last then
      _, last, word = line:find("^%s*(%S+)", at)
    end
    if not last then
      return words
    end
    words[#words + 1], at = word, last + 1
  end
end

local client <close> = resp.client(connect())

if arg[2] then
  print(show(client:send(table.unpack(arg, 2)):await(), ""))
  return
end

local prompt = is_terminal and "> " or ""
local sent = moonloop.Queue(1000) -- so many commands may be on their way

local function send_commands()
  moonloop.stdout:write(prompt)
  for line in moonloop.stdin:lines() do
    local words = words_of(line)
    if #words > 0 then
      sent:put(client:send(table.unpack(words)))
    end
  end
  sent:shutdown()
end

local function show_replies()
  for reply in sent:iter() do
    moonloop.stdout:write(show(reply:await(), ""), "\n", prompt)
  end
end

moonloop.gather(send_commands, show_replies)

-- SPDX-License-Identifier: MIT
-- What: a chat server: what one says, all others read. /who lists them, /quit leaves.
-- Why: many connections that have to do with each other, and no lock anywhere: between two waits
--      nothing else runs. One that reads too slowly is dropped and holds up nobody. On Ctrl-C
--      everybody is told, and gets it.
-- Usage: moonloop examples/chat_server.lua [HOST [PORT]]     (127.0.0.1 8008; port 0: any free one)
--        then, in other terminals: moonloop examples/chat_client.lua 127.0.0.1 8008
--        or:                       socat - TCP:127.0.0.1:8008
local moonloop = require "moonloop"

local host = arg[1] or "127.0.0.1"
local port = tonumber(arg[2] or 8008)

local MAX_LINE = 1000 -- bytes
local GRACE = 2 -- seconds for the last words at the end

local members = {} -- name to stream

-- Whoever is so far behind that there is no room for a line is dropped. One whose connection is
-- lost is as well: try_write raises then, and that is not to end whoever speaks.
local function send(stream, line)
  local ok, sent = pcall(stream.try_write, stream, line)
  if not (ok and sent) then
    stream:abort() -- its handler finds it closed
  end
end

local function tell_all(line, except)
  for _, stream in pairs(members) do
    if stream ~= except then
      send(stream, line)
    end
  end
end

local function names()
  local list = {}
  for name in pairs(members) do
    list[#list + 1] = name
  end
  table.sort(list)
  return table.concat(list, ", ")
end

local function next_line(stream)
  local line = stream:readline()
  return line and line:gsub("%s+$", "")
end

-- Asks until there is a name that nobody has; nil when the connection ends first.
local function ask_name(stream)
  stream:write("* your name?\n")
  while true do
    local name = next_line(stream)
    if not name then
      return nil
    elseif not name:match("^%w+$") or #name > 20 then
      stream:write("* letters and digits, at most 20, please\n")
    elseif members[name] then
      stream:write("* somebody has that name; another one?\n")
    else
      return name
    end
  end
end

local function talk(name, stream)
  while true do
    local line = next_line(stream)
    if not line or line == "/quit" then
      return
    elseif line == "/who" then
      send(stream, "* here: " .. names() .. "\n")
    elseif line ~= "" then
      tell_all("<" .. name .. "> " .. line .. "\n", stream)
    end
  end
end

-- What a peer may bring about is no fault of ours: a reset, an endless line, being dropped.
local function is_peers_fault(stream, err)
  return stream:is_closing() or moonloop.is_error(err, "ConnectionError")
    or moonloop.is_error(err, "LimitOverrunError")
end

local function visit(stream)
  local name = ask_name(stream)
  if not name then
    return
  end
  members[name] = stream
  local _ <close> = moonloop.defer(function()
    members[name] = nil
    tell_all("* " .. name .. " has left\n")
  end)
  tell_all("* " .. name .. " is here\n", stream)
  send(stream, "* welcome; here: " .. names() .. "\n")
  talk(name, stream)
end

local server <close> = moonloop.start_server(function(stream)
  local ok, err = moonloop.pcall(visit, stream)
  if not ok and not is_peers_fault(stream, err) then
    error(err, 0)
  end
end, host, port, { limit = MAX_LINE })

-- After Ctrl-C: everybody sees a last line and end of file, and has some time to close.
local _ <close> = moonloop.defer(function()
  local all = members
  members = {}
  for _, stream in pairs(all) do
    send(stream, "* the server ends, goodbye\n")
    pcall(stream.write_eof, stream) -- some may be lost already
  end
  local ended, cancelled, aborted = server:shutdown { grace = GRACE }
  print(("%d left, %d had to"):format(ended, cancelled + aborted))
end)

print(("listening on %s port %d"):format(host, server:port()))
io.stdout:flush()
server:serve_forever()

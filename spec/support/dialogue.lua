-- SPDX-License-Identifier: MIT
-- Talks with another program: all three of its standard streams are one Stream of the spec, so a
-- spec can answer what the program says. Builds on peers.lua; bash makes the connection.
local command = require "spec.support.command"
local moonloop = require "moonloop"
local peers = require "spec.support.peers"

local M = {}

local PATIENCE = 30 -- seconds in which something has to be said
local CONNECT = "exec 3<>/dev/tcp/127.0.0.1/%d; echo $$ >&3; exec <&3 >&3 2>&3 3>&-; exec %s"

local Dialogue = {}
Dialogue.__index = Dialogue
Dialogue.__name = "Dialogue"

--- Sends text to the program's standard input. Awaits.
function Dialogue:write(...)
  self.stream:write(...)
end

--- Closes the program's standard input. Awaits.
function Dialogue:write_eof()
  self.stream:write_eof()
end

-- Whether there was more.
local function listen(self)
  local ok, data = moonloop.pcall(self.stream.read, self.stream, 65536)
  if not ok and not moonloop.is_error(data, "ConnectionError") then error(data, 0) end
  if not ok or not data then return false end
  self.said = self.said .. data
  return true
end

-- Listens until the pattern is found, or nothing more comes.
local function seek(self, pattern)
  while true do
    local found = table.pack(self.said:find(pattern, self.heard))
    if found[1] then return found end
    if not listen(self) then return nil end
  end
end

--- Waits until what the program has said since the last call matches a pattern. Awaits.
-- @return what the pattern captured
function Dialogue:expect(pattern)
  local ok, found = moonloop.move_on_after(PATIENCE, seek, self, pattern)
  if not found then
    error(("%q is not in what the program said, which has %s: %s"):format(pattern,
      ok and "ended" or "fallen silent", self.said), 2)
  end
  self.heard = found[2] + 1
  return table.unpack(found, 3, found.n)
end

--- Waits for the program's end. Awaits.
-- @return its exit status, and all that it said
function Dialogue:finish()
  while listen(self) do end
  self.stream:close()
  self.done:set_result()
  local status = self.job:wait()
  self.server:close()
  self.server:wait_closed()
  self.pid = nil
  return status, self.said
end

-- Ends the program where it has not ended yet. Awaits.
Dialogue.__close = function(self)
  if not self.pid then return end
  os.execute(("kill %d 2>/dev/null"):format(self.pid))
  self:finish()
end

--- Starts a program, which a to-be-closed variable ends. Awaits.
-- @param line the shell's line, one command
function M.start(line)
  local came, done = moonloop.Future(), moonloop.Future()
  local server = moonloop.start_server(function(stream)
    came:set_result(stream)
    done:await()
  end, "127.0.0.1", 0)
  local job = peers.start("exec bash -c " .. command.quote(CONNECT:format(server:port(), line)))
  local stream = came:await()
  return setmetatable({
    server = server, job = job, stream = stream, done = done, said = "", heard = 1,
    pid = math.tointeger(tonumber(stream:readline())),
  }, Dialogue)
end

return M

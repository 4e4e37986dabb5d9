-- SPDX-License-Identifier: MIT
-- Other programs that run while the loop of the specs serves: started through
-- the shell in the background, they say by a connection of their own that they
-- ended. Builds on start_server, since subprocesses come later.
local command = require "spec.support.command"
local moonloop = require "moonloop"

local M = {}

local Job = {}
Job.__index = Job
Job.__name = "Job"

--- Waits until the program has ended. Awaits.
-- @return its exit status, and what it wrote to both outputs
function Job:wait()
  local status = self.ended:await()
  self.server:close()
  self.server:wait_closed()
  local file = assert(io.open(self.output, "rb"))
  local text = file:read("a")
  file:close()
  os.remove(self.output)
  return status, text
end

--- Starts a shell command in the background; after 60 s it is ended. Awaits.
function M.start(line)
  local job = setmetatable({ ended = moonloop.Future(), output = os.tmpname() }, Job)
  job.server = moonloop.start_server(function(stream)
    job.ended:set_result(tonumber(stream:readline()))
  end, "127.0.0.1", 0)
  local script = ("timeout -k 2 60 sh -c %s >%s 2>&1 </dev/null; echo $? >/dev/tcp/127.0.0.1/%d")
    :format(command.quote(line), job.output, job.server:port())
  -- What bash itself has to say is that a signal ended the program.
  os.execute("bash -c " .. command.quote(script) .. " 2>/dev/null &")
  return job
end

--- Runs a shell command while the loop goes on. Awaits.
-- @return its exit status, and what it wrote to both outputs
function M.run(line)
  return M.start(line):wait()
end

local RawPeer = {}
RawPeer.__index = RawPeer
RawPeer.__name = "RawPeer"

--- Has the peer carry out a command of raw_peer.py. Awaits.
-- @return its answer
function RawPeer:ask(...)
  self.control:write(table.concat({ ... }, " "), "\n")
  return assert(self.control:readline(), "the raw peer has ended"):sub(1, -2)
end

-- Awaits the end of the program, too.
RawPeer.__close = function(self)
  self.control:close()
  self.done:set_result()
  self.job:wait()
  self.server:close()
  self.server:wait_closed()
end

--- Starts raw_peer.py, which a to-be-closed variable ends. Awaits.
function M.raw()
  local came, done = moonloop.Future(), moonloop.Future()
  local server = moonloop.start_server(function(stream)
    came:set_result(stream)
    done:await()
  end, "127.0.0.1", 0)
  local job = M.start("exec python3 spec/support/raw_peer.py " .. server:port())
  return setmetatable({ job = job, control = came:await(), done = done, server = server }, RawPeer)
end

return M

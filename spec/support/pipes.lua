-- SPDX-License-Identifier: MIT
-- What the specs of streams on descriptors that are no TCP sockets need: files, FIFOs and pairs
-- that a to-be-closed variable lets go of, and a look at descriptors from outside, by /proc.
-- Builds on lfs and the shell; of what is under test on moonloop.socketpair alone.
local lfs = require "lfs"
local moonloop = require "moonloop"

local M = {}

-- ---- files -------------------------------------------------------------------

local Path = {}
Path.__index = Path
Path.__name = "Path"
Path.__close = function(self) os.remove(self.path) end

--- All that the file holds.
function Path:read()
  local file <close> = assert(io.open(self.path, "rb"))
  return file:read("a")
end

--- A file that holds `text`; a to-be-closed variable removes it.
-- @return an object with `path` and `read`
function M.file(text)
  local self = setmetatable({ path = os.tmpname() }, Path)
  local file <close> = assert(io.open(self.path, "wb"))
  file:write(text)
  return self
end

--- A name in the temporary folder that nothing has; what is made there is removed.
function M.free_path()
  local self = setmetatable({ path = os.tmpname() }, Path)
  os.remove(self.path)
  return self
end

--- A FIFO, which a to-be-closed variable removes.
function M.fifo()
  local self = M.free_path()
  assert(os.execute("mkfifo " .. self.path))
  return self
end

--- Opens both ends of a FIFO.
-- @return the Lua file that reads, the Lua file that writes
function M.ends(fifo)
  local _ <close> = assert(io.open(fifo.path, "r+b")) -- so that neither open waits
  return assert(io.open(fifo.path, "rb")), assert(io.open(fifo.path, "wb"))
end

-- ---- descriptors -------------------------------------------------------------

-- The descriptors of this process with what each is open on; the one that lists them is
-- closed by then.
local function open_descriptors()
  local names, open = {}, {}
  for name in lfs.dir("/proc/self/fd") do names[#names + 1] = name end
  for _, name in ipairs(names) do
    open[name] = lfs.symlinkattributes("/proc/self/fd/" .. name, "target")
  end
  return open
end

--- How many descriptors this process has on the file of that path.
function M.count_descriptors(path)
  local count = 0
  for _, target in pairs(open_descriptors()) do
    if target == path then count = count + 1 end
  end
  return count
end

--- Calls io.open and says which descriptor the file has.
-- @return the Lua file, its descriptor
function M.open(path, mode)
  local before = open_descriptors()
  local file = assert(io.open(path, mode))
  for name in pairs(open_descriptors()) do
    if not before[name] then return file, math.tointeger(name) end
  end
  error("the new descriptor was not found")
end

--- Opens a file whose descriptor belongs to no Lua file.
-- @return the descriptor
function M.descriptor(path, mode)
  local file, fd = M.open(path, mode)
  debug.setmetatable(file, nil) -- so that the collector does not close it
  return fd
end

local function fdinfo(pid, fd, field)
  for line in io.lines(("/proc/%s/fdinfo/%d"):format(pid, fd)) do
    local value = line:match("^" .. field .. ":%s*(%d+)")
    if value then return value end
  end
end

--- Where a descriptor of this process stands in its file.
function M.position(fd)
  return math.tointeger(fdinfo("self", fd, "pos"))
end

local NONBLOCK <const> = 0x800 -- O_NONBLOCK

--- Whether what a descriptor of a process is open on is left blocking, for all who share it.
function M.is_blocking(pid, fd)
  return tonumber(fdinfo(pid, fd, "flags"), 8) & NONBLOCK == 0
end

--- Whether a descriptor is there.
function M.is_open(fd)
  return lfs.symlinkattributes("/proc/self/fd/" .. fd) ~= nil
end

-- ---- pairs of streams --------------------------------------------------------

local Pair = {}
Pair.__index = Pair
Pair.__name = "Pair"

Pair.__close = function(self)
  self.client:abort()
  self.peer:abort()
end

--- The two ends of a socketpair, which a to-be-closed variable aborts.
-- @return an object with `client` and `peer`, as net.pair gives
function M.pair(opts)
  local client, peer = moonloop.socketpair(opts)
  return setmetatable({ client = client, peer = peer }, Pair)
end

return M

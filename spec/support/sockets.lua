-- SPDX-License-Identifier: MIT
-- Sockets for the specs of moonloop.socket, datagrams, servers and connecting: connected pairs,
-- listeners, one whose backlog is full, and words for filling and for looking at descriptors and
-- at connections that are under way. Builds on the public names and on Linux's /proc.
local command = require "spec.support.command"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local M = {}

local CHUNK = ("0123456789abcdef"):rep(256)

M.CHUNK = CHUNK

--- A listening TCP Socket on a free port, and its address.
-- @param opts `host` (127.0.0.1), `port` (a free one), `backlog`
function M.listener(opts)
  opts = opts or {}
  local host = opts.host or "127.0.0.1"
  local listener = moonloop.socket.tcp(host:find(":", 1, true) and "inet6" or "inet")
  local ok, err = pcall(listener.bind, listener, { host = host, port = opts.port or 0 })
  if not ok then
    listener:close()
    error(err, 0)
  end
  listener:listen(opts.backlog)
  return listener, listener:getsockname()
end

local Both = {}
Both.__close = function(self)
  for _, one in ipairs(self) do one:close() end
end

--- A value that closes all of its arguments when it is closed.
function M.closing(...)
  return setmetatable({ ... }, Both)
end

--- Two connected Unix Sockets, and a to-be-closed value that closes both.
-- @param type "stream" or "dgram"
function M.socketpair(type)
  local a, b = moonloop.socket.socketpair(type)
  return a, b, M.closing(a, b)
end

--- Two connected TCP Sockets: the one that connected, the one accepted; and a to-be-closed value
-- that closes both. Awaits.
function M.tcp_pair(host)
  local listener <close>, address = M.listener { host = host }
  local near = moonloop.socket.tcp(host and host:find(":", 1, true) and "inet6" or "inet")
  near:connect(address)
  local far = listener:accept()
  return near, far, M.closing(near, far)
end

local Hole = {}
Hole.__index = Hole
Hole.__name = "Hole"

--- Lets whoever waits to be connected be refused. May be called twice.
function Hole:close()
  self.listener:close()
  self.filler:close()
end

Hole.__close = Hole.close

--- An address that lets a connect wait: its listener's backlog is full. Awaits.
-- @return a to-be-closed value with `address`, `host`, `port` and `listener`
function M.hole(host, port)
  local listener, address = M.listener { host = host, port = port, backlog = 0 }
  local filler = moonloop.socket.tcp(host and host:find(":", 1, true) and "inet6" or "inet")
  filler:connect(address)
  return setmetatable({
    listener = listener, filler = filler, address = address, host = address.host,
    port = address.port,
  }, Hole)
end

--- Sends CHUNK until the system takes no more. Awaits.
-- @return the number of bytes taken
function M.fill(socket)
  local count = 0
  local task = tasks.start({ name = "filler" }, function()
    while true do count = count + socket:send(CHUNK) end
  end)
  assert(tasks.cancel(task), "send never waits")
  return count
end

--- Receives exactly `count` bytes, or what comes before the end of file. Awaits.
function M.take(socket, count)
  local pieces, got = {}, 0
  while got < count do
    local piece = socket:recv(count - got)
    if not piece then break end
    pieces[#pieces + 1] = piece
    got = got + #piece
  end
  return table.concat(pieces)
end

--- Whether `text` is what `fill` sends.
function M.is_filling(text)
  local whole = CHUNK:rep(#text // #CHUNK + 1)
  return text == whole:sub(1, #text)
end

--- How many descriptors this process has.
function M.count_descriptors()
  local name = os.tmpname()
  os.execute("ls /proc/$PPID/fd | wc -l >" .. name) -- popen's own may be open or closed by then
  local file <close> = assert(io.open(name))
  os.remove(name)
  return file:read("n")
end

--- Whether a descriptor of this process is non-blocking.
function M.is_nonblocking(fd)
  local file = assert(io.open("/proc/self/fdinfo/" .. fd))
  local flags = file:read("a"):match("flags:%s*(%d+)")
  file:close()
  return tonumber(flags, 8) & tonumber("4000", 8) ~= 0
end

-- The last eight hexadecimal digits of an address in /proc, as IPv4 is written.
local function dotted(hex)
  local bytes = {}
  for pair in hex:sub(-8):gmatch("%x%x") do table.insert(bytes, 1, tonumber(pair, 16)) end
  return table.concat(bytes, ".")
end

local SYN_SENT = "02"

-- One look at the hosts that connects to `port` are under way to. What changes meanwhile can make
-- the system list one twice, or leave one out.
local function look(port)
  local hosts, seen = {}, {}
  for _, name in ipairs { "tcp", "tcp6" } do
    for line in io.lines("/proc/self/net/" .. name) do
      local here, host, number = line:match("^%s*%d+: (%x+:%x+) (%x+):(%x+) " .. SYN_SENT)
      if host and tonumber(number, 16) == port and not seen[here] then
        seen[here] = true
        hosts[#hosts + 1] = dotted(host)
      end
    end
  end
  table.sort(hosts)
  return hosts
end

--- The hosts that connects to `port` are under way to, sorted. An IPv6 host is written by its last
-- four bytes: "0.0.0.1" is ::1, and ::ffff:127.0.0.1 looks like 127.0.0.1.
function M.connecting(port)
  local hosts, again = look(port), look(port)
  while table.concat(hosts, " ") ~= table.concat(again, " ") do
    hosts, again = again, look(port)
  end
  return hosts
end

--- Calls `name` as a method of `object`, which must refuse the argument at `position`. The call is
-- written out, since it is by its words that Lua names the method.
-- @return the message
function M.refuses(position, object, name, ...)
  local call = ("local o, a = ... local _ = o:%s(table.unpack(a, 1, a.n))"):format(name)
  return net.refuses(("bad argument #%d to '%s'"):format(position, name), load(call), object,
    table.pack(...))
end

local Folder = {}
Folder.__index = Folder
Folder.__name = "Folder"

--- Removes it and what is in it.
function Folder:close()
  os.execute("rm -rf " .. command.quote(self.path))
end

Folder.__close = Folder.close

--- A path in the folder.
function Folder:file(name)
  return self.path .. "/" .. name
end

--- An empty folder with a short path, for Unix sockets; a to-be-closed variable removes it.
function M.folder()
  local pipe = assert(io.popen("mktemp -d"))
  local path = pipe:read("l")
  pipe:close()
  return setmetatable({ path = path }, Folder)
end

return M

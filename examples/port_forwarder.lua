-- SPDX-License-Identifier: MIT
-- What: listens on a port and passes every connection on to another address.
-- Why: moonloop.relay does the work: both directions, end of file passed on, a slow side slows
--      the other. What is left to the program is to connect, and to tell.
-- Usage: moonloop examples/port_forwarder.lua [HOST:]PORT TARGET:PORT
--        moonloop examples/port_forwarder.lua 8080 127.0.0.1:80
--        moonloop examples/port_forwarder.lua 8080 /run/service.sock     (to a Unix socket)
local moonloop = require "moonloop"

local CONNECT_TIMEOUT = 10 -- seconds

local function usage()
  io.stderr:write("usage: port_forwarder.lua [HOST:]PORT TARGET:PORT | [HOST:]PORT /PATH\n")
  os.exit(2)
end

-- "host:port", "[ipv6]:port" or "port" -> host, port
local function split(address)
  local host, port = address:match("^(.*):(%d+)$")
  return host and host:match("^%[(.*)%]$") or host, tonumber(port or address)
end

local listen_host, listen_port = split(arg[1] or usage())
local target = arg[2] or usage()
local target_host, target_port = split(target)
local is_path = target:find("^/") ~= nil
if not listen_port or not (is_path or target_host and target_port) then
  usage()
end

local function connect()
  if is_path then
    return moonloop.connect_unix(target, { timeout = CONNECT_TIMEOUT })
  end
  return moonloop.connect(target_host, target_port, { timeout = CONNECT_TIMEOUT })
end

local function say(...)
  print(string.format(...))
  io.stdout:flush()
end

local function forward(client)
  local from = client:get_extra_info("peername")
  local name = ("%s:%d"):format(from.host, from.port)
  local ok, result, back = moonloop.pcall(function()
    local upstream <close> = connect()
    return moonloop.relay(client, upstream)
  end)
  if ok then
    say("%s sent %d bytes, received %d", name, result, back)
  else
    say("%s: %s", name, result)
    client:abort() -- it did not end in good order, and is not to look as if it had
  end
end

local server <close> = moonloop.start_server(forward, listen_host or "127.0.0.1", listen_port)
say("forwarding port %d to %s", server:port(), target)
server:serve_forever()

-- SPDX-License-Identifier: MIT
-- Look-ups in a process of their own, with files and variables that say how names are looked up:
-- its own /etc/hosts and /etc/resolv.conf (by a mount namespace, where the system lets us make
-- one), LOCALDOMAIN, RES_OPTIONS. The spec's loop goes on meanwhile, and with it its DNS servers.
-- Builds on peers.lua and script.lua.
local command = require "spec.support.command"
local peers = require "spec.support.peers"
local script = require "spec.support.script"

local M = {}

local namespaces

-- The words that run a program with mounts of its own; false where they do not work.
local function own_mounts()
  if namespaces ~= nil then return namespaces end
  namespaces = false
  for _, flags in ipairs { "-m", "-rm" } do
    local status = command.run { "unshare", flags, "sh", "-c",
      "mount --bind /dev/null /etc/hosts && test ! -s /etc/hosts" }
    if status == 0 then
      namespaces = "unshare " .. flags
      break
    end
  end
  return namespaces
end

--- Whether a child can have files of its own in /etc.
function M.can_have_files()
  return own_mounts() ~= false
end

-- Shell words that put the folder's file `name` in the place of the one in /etc.
local function mount(folder, name, text)
  local path = folder:write(name, text)
  return ("mount --bind %s /etc/%s && "):format(command.quote(path), name)
end

local function assignments(env)
  local words = {}
  for name, value in pairs(env) do words[#words + 1] = name .. "=" .. command.quote(value) end
  return table.concat(words, " ")
end

-- What the scripts begin with. Their arguments are the addresses of DNS servers.
local HEAD = [[
  local moonloop = require "moonloop"
  if ... then moonloop.dns.set_servers { ... } end
  -- The hosts that a name has, in a line, or the code of the error.
  local function look_up(name, opts)
    local ok, list = pcall(moonloop.getaddrinfo, name, nil, opts or { type = "stream" })
    if not ok then
      if not moonloop.is_error(list, "DNSError") then error(list, 0) end
      return list.code
    end
    local hosts = {}
    for i, one in ipairs(list) do hosts[i] = one.host end
    return table.concat(hosts, " ")
  end
]]

--- Runs a script in a child process to its end; it has `moonloop` and `look_up(name, opts)`.
-- Awaits.
-- @param opts `servers` (a list of "host:port"), `env`, `hosts` and `resolv` (texts of the files),
-- `limit` (of descriptors), `folder`
-- @return its exit status, and what it wrote to both outputs
function M.run(source, opts)
  local folder = opts.folder or script.folder()
  local _ <close> = not opts.folder and folder or nil
  folder:write("script.lua", HEAD .. source)
  local line = ("exec env %s %s script.lua %s"):format(assignments(opts.env or {}),
    command.quote(script.binary), table.concat(opts.servers or {}, " "))
  if opts.limit then line = ("ulimit -n %d; %s"):format(opts.limit, line) end
  if opts.hosts or opts.resolv then
    local inside = (opts.hosts and mount(folder, "hosts", opts.hosts) or "")
      .. (opts.resolv and mount(folder, "resolv.conf", opts.resolv) or "") .. line
    line = ("exec %s sh -c %s"):format(own_mounts(), command.quote(inside))
  end
  return peers.run(("cd %s; %s"):format(command.quote(folder.path), line))
end

return M

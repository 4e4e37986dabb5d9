-- SPDX-License-Identifier: MIT
-- The files of this machine that names are looked up in: /etc/resolv.conf,
-- /etc/hosts, /etc/services. Each is read again when it has changed.

local core = require "moonloop.core"

local M = {}

local open, getenv = io.open, os.getenv

local function read(path)
  local file <close> = open(path, "rb")
  return file and file:read("a")
end

-- A function that gives what `parse` makes of the file's text. What cannot be read
-- counts as empty for now.
local function cached(path, parse)
  local stamp, value
  return function()
    local now = core.file_stamp(path)
    if value ~= nil and now == stamp then return value end
    local text = now and read(path)
    stamp, value = text and now, parse(text or "")
    return value
  end
end

-- ---- resolv.conf ---------------------------------------------------------------

local function words_of(text)
  local words = {}
  for word in text:gmatch("%S+") do words[#words + 1] = word end
  return words
end

local function clamped(text, lowest, highest)
  return math.max(lowest, math.min(math.tointeger(tonumber(text)) or lowest, highest))
end

-- As glibc bounds them.
local OPTIONS = {
  ndots = function(config, text) config.ndots = clamped(text, 0, 15) end,
  timeout = function(config, text) config.timeout = clamped(text, 1, 30) end,
  attempts = function(config, text) config.tries = clamped(text, 1, 5) end,
  rotate = function(config) config.rotate = true end,
}

local function set_options(config, text)
  for _, word in ipairs(words_of(text)) do
    local name, value = word:match("^(%a+):?(%d*)$")
    if OPTIONS[name] then OPTIONS[name](config, value) end
  end
end

local KEYWORDS = { options = set_options }

function KEYWORDS.nameserver(config, text)
  local host = words_of(text)[1]
  if host and core.numeric_host(host) then
    config.servers[#config.servers + 1] = { host = host, port = 53 }
  end
end

function KEYWORDS.search(config, text) config.domains = words_of(text) end

function KEYWORDS.domain(config, text) config.domains = { words_of(text)[1] } end

local function own_domain()
  return (core.host_name() or ""):match("^[^.]*%.(.+)$")
end

--- Reads the text of a resolv.conf, and what the environment says beside it.
-- @return table: `servers` (list of {host=, port=}), `domains` (list), `ndots`,
-- `timeout` (seconds for a try), `tries`, `rotate`
function M.parse_resolv_conf(text)
  local config = { servers = {}, ndots = 1, timeout = 5, tries = 2, rotate = false }
  for line in text:gmatch("[^\r\n]+") do
    local keyword, rest = line:match("^(%a+)%s+([^#;]*)")
    if KEYWORDS[keyword] then KEYWORDS[keyword](config, rest) end
  end
  if getenv("LOCALDOMAIN") then config.domains = words_of(getenv("LOCALDOMAIN")) end
  set_options(config, getenv("RES_OPTIONS") or "")
  config.domains = config.domains or { own_domain() }
  if #config.servers == 0 then config.servers[1] = { host = "127.0.0.1", port = 53 } end
  return config
end

--- Gives what /etc/resolv.conf says now, as `parse_resolv_conf` does.
M.resolv_conf = cached("/etc/resolv.conf", M.parse_resolv_conf)

-- ---- hosts ---------------------------------------------------------------------

local function parse_hosts(text) return { text = text, lower = text:lower() } end

local hosts = cached("/etc/hosts", parse_hosts)

-- The words of the line that holds position `at`, without its comment.
local function line_at(text, at)
  local first = at
  while first > 1 and text:byte(first - 1) ~= 10 do first = first - 1 end
  return words_of(text:match("^[^\n#]*", first))
end

-- Whether what was found is a word, and no part of one: there may be many of these.
local function stands_alone(text, from, to)
  local ends = to == #text or text:find("^[%s#]", to + 1)
  return ends and from > 1 and text:find("^%s", from - 1) ~= nil
end

local function has_name(words, name)
  for i = 2, #words do
    if words[i]:lower() == name then return true end
  end
  return false
end

--- Gives the addresses that /etc/hosts (or `text`) has for a name.
-- @param[opt] family "inet" or "inet6": only those
-- @return list of {host=, family=}, may be empty; string, the line's first name
function M.addresses_of(name, family, text)
  local file = text and parse_hosts(text) or hosts()
  name = name:lower():gsub("%.$", "")
  local list, first, at = {}, nil, 1
  while name ~= "" do
    local from, to = file.lower:find(name, at, true)
    if not from then return list, first end
    at = to + 1
    if stands_alone(file.text, from, to) then
      local words = line_at(file.text, from)
      local host, its_family = core.numeric_host(words[1] or "")
      if host and has_name(words, name) and (not family or family == its_family) then
        list[#list + 1] = { host = host, family = its_family }
        first = first or words[2]
      end
      at = file.text:find("\n", to, true) or #file.text + 1
    end
  end
  return list
end

local function names_by_host(text)
  local names = {}
  for line in text:gmatch("[^\n]+") do
    local address, name = line:match("^%s*([^%s#]+)%s+([^%s#]+)")
    local host = address and core.numeric_host(address)
    if host then names[host] = names[host] or name end
  end
  return names
end

--- Gives the first name that /etc/hosts (or `text`) has for a numeric host, or nil.
function M.name_of(host, text)
  local file = text and parse_hosts(text) or hosts()
  file.names = file.names or names_by_host(file.text)
  return file.names[host]
end

-- ---- services ------------------------------------------------------------------

local function parse_services(text)
  local services = { ports = {}, names = {} }
  for line in text:gmatch("[^\n]+") do
    local words = words_of(line:match("^[^#]*"))
    local port, proto = (words[2] or ""):match("^(%d+)/(%a+)$")
    if port then
      for i = 1, #words do
        local key = words[i] .. "/" .. proto
        if i ~= 2 then services.ports[key] = services.ports[key] or math.tointeger(port) end
      end
      local key = port .. "/" .. proto
      services.names[key] = services.names[key] or words[1]
    end
  end
  return services
end

local services = cached("/etc/services", parse_services)

--- Gives the port of a service, or nil.
-- @param proto "tcp" or "udp"
function M.port_of(service, proto) return services().ports[service .. "/" .. proto] end

--- Gives the service that has a port, or nil.
function M.service_of(port, proto) return services().names[port .. "/" .. proto] end

return M

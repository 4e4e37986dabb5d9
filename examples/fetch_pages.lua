-- SPDX-License-Identifier: MIT
-- What: fetches many pages of a web server, a fixed number of connections at a time, and checks or
--       sums each of them.
-- Why: it shows that nothing is lost, doubled or mixed up between connections. The checksums are
--      those of the `cksum` command.
-- Usage: moonloop examples/fetch_pages.lua HOST PORT [--pages N] [--connections N] [--path FORMAT]
--          [--directory DIR]
--        Page i has the path FORMAT with i in it (/%d.html unless said otherwise), i from 1 to N.
--        With --directory each body is compared with the file of that path in DIR, byte for byte;
--        without it a line "checksum size path" is printed for each page. The exit status is 1 when
--        a page was wrong.
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local http = require "lib.http"

local function refuse(message)
  io.stderr:write("fetch_pages: ", message, "\n",
    "usage: fetch_pages.lua HOST PORT [--pages N] [--connections N] [--path FORMAT]",
    " [--directory DIR]\n")
  os.exit(2)
end

local function parse_options(words)
  local options = { pages = 100, connections = 10, path = "/%d.html", directory = false }
  options.host, options.port = words[1], tonumber(words[2])
  if not options.port then
    refuse "a host and a port are needed"
  end
  for i = 3, #words, 2 do
    local name, value = words[i]:match "^%-%-(%a+)$", words[i + 1]
    if not name or options[name] == nil or not value then
      refuse("unknown option, or no value: " .. words[i])
    end
    options[name] = value
  end
  options.pages = tonumber(options.pages) or refuse "--pages takes a number"
  options.connections = tonumber(options.connections) or refuse "--connections takes a number"
  return options
end

-- The table of the CRC that POSIX defines for cksum.
local crc_of_byte = {}
for byte = 0, 255 do
  local crc = byte << 24
  for _ = 1, 8 do
    crc = crc & 0x80000000 ~= 0 and (crc << 1) ~ 0x04C11DB7 or crc << 1
  end
  crc_of_byte[byte] = crc & 0xFFFFFFFF
end

local function cksum(text)
  local crc = 0
  local function add(byte)
    crc = (crc << 8 & 0xFFFFFFFF) ~ crc_of_byte[crc >> 24 ~ byte]
  end
  for i = 1, #text do
    add(text:byte(i))
  end
  local length = #text
  while length > 0 do
    add(length & 0xFF)
    length = length >> 8
  end
  return ~crc & 0xFFFFFFFF
end

local function read_file(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

-- What is to be said about a page: a complaint, or nil.
local function check(options, path, answer)
  if answer.status ~= 200 then
    return ("%s: %d %s"):format(path, answer.status, answer.reason)
  end
  if options.directory then
    local expected = read_file(options.directory .. path)
    if answer.body ~= expected then
      return ("%s: %d bytes that differ from the file's %d"):format(path, #answer.body, #expected)
    end
  end
end

local options = parse_options(arg)
local next_page, bytes, sums, complaints = 1, 0, {}, {}

local function fetch(client, i)
  local path = options.path:format(i)
  local ok, answer = moonloop.pcall(client.get, client, path)
  local complaint = answer
  if ok then
    bytes = bytes + #answer.body
    sums[i] = not options.directory and ("%d %d %s"):format(cksum(answer.body), #answer.body, path)
    ok, complaint = moonloop.pcall(check, options, path, answer)
  end
  if complaint then
    complaints[#complaints + 1] = ok and complaint or path .. ": " .. tostring(complaint)
  end
end

local function worker()
  local client <close> = http.client(options.host, options.port)
  while next_page <= options.pages do
    local i = next_page
    next_page = next_page + 1 -- no other worker runs between these two lines
    fetch(client, i)
  end
end

local connections = math.min(options.connections, options.pages)
moonloop.task_group(function(group)
  for _ = 1, connections do
    group:create_task(worker)
  end
end)

for i = 1, options.directory and 0 or options.pages do
  print(sums[i] or "no answer: " .. options.path:format(i))
end
for _, complaint in ipairs(complaints) do
  print(complaint)
end
print(("%d pages, %d bytes, %d connections, %d wrong"):format(
  options.pages, bytes, connections, #complaints))
moonloop.exit(#complaints > 0 and 1 or 0)

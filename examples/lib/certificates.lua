-- SPDX-License-Identifier: MIT
-- Certificates to try TLS with: an authority of one's own and what it signs, made by the openssl
-- command in a temporary folder that goes away with the authority. Each command stops the whole
-- program for some milliseconds; a real server finds its certificates made.
local M = {}

local KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

-- What `openssl ca` wants to know; it is the command that can set the dates.
local SETTINGS = [[
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
[ca]
default_ca = us
[us]
certificate = ca.pem
private_key = ca.key
database = issued.txt
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
]]

-- Runs a line of shell in the folder; its output is wanted only when it fails.
local function run(folder, line)
  local pipe = assert(io.popen(("{ cd '%s' && %s; } 2>&1"):format(folder, line)))
  local output = pipe:read "a"
  if not pipe:close() then
    error("this failed: " .. line .. "\n" .. output, 0)
  end
  return output
end

local Authority = {}
Authority.__index = Authority
Authority.__name = "certificates.Authority"

-- Removes the folder and all that was made in it.
function Authority:__close()
  run("/", "rm -r '" .. self.folder .. "'")
end

--- Makes an authority.
-- @param name what it is called
-- @return the authority, a to-be-closed value; `file` is its certificate, which clients trust, and
--   `key` the file of its key
function M.authority(name)
  local folder = run("/", "mktemp -d"):match "%S+"
  local self = setmetatable({
    folder = folder, file = folder .. "/ca.pem", key = folder .. "/ca.key", count = 0,
  }, Authority)
  local settings <close> = assert(io.open(folder .. "/settings", "w"))
  settings:write(SETTINGS)
  settings:flush()
  run(folder, ": >issued.txt && openssl req -config settings -x509 -extensions authority " .. KEY
    .. " -keyout ca.key -out ca.pem -days 30 -subj '/CN=" .. name .. "'")
  return self
end

--- Makes a certificate and its key.
-- @param options `name` (its subject, a host name for a server); `san` ("DNS:" and the name unless
--   said otherwise; separated by commas); `purpose` ("serverAuth" or "clientAuth"); `from` and
--   `to`, dates as 20260131000000Z (30 days from now unless said otherwise)
-- @return a table with `cert` and `key`, two paths: what a context wants
function Authority:issue(options)
  self.count = self.count + 1
  local file = "issued-" .. self.count
  local dates = options.to and "-startdate " .. options.from .. " -enddate " .. options.to
    or "-days 30"
  run(self.folder, ("openssl req -config settings -new %s -keyout %s.key -out %s.csr"):format(
    KEY, file, file) .. (" -subj '/CN=%s' -addext subjectAltName=%s"):format(
    options.name, options.san or "DNS:" .. options.name)
    .. " -addext extendedKeyUsage=" .. (options.purpose or "serverAuth"))
  run(self.folder, ("openssl ca -config settings -batch -notext -in %s.csr -out %s.pem %s"):format(
    file, file, dates))
  local path = self.folder .. "/" .. file
  return { cert = path .. ".pem", key = path .. ".key" }
end

return M

-- SPDX-License-Identifier: MIT
-- Certificates for the TLS specs: authorities, servers and clients, good ones and ones that fail
-- in one way each, made by the openssl command when a field is first asked for, once for the
-- process, in a temporary folder that is removed at its end. Builds on command.lua alone.
--
-- `ca`, `other_ca`, `client_ca`, `intermediate` are the authorities' certificates (with `_key`
-- their keys), `hashed` is a folder that holds `ca` as OpenSSL's hashed directories do, `folder`
-- the folder of all. Each entry of LEAVES is a table `{cert=, key=}`; `chained` has `chain`, too
-- (its own certificate and then the intermediate's); `encrypted` and `client_encrypted` are those
-- of `server` and `client` with a locked key and its `password`. All else are paths.
local command = require "spec.support.command"

local M = {}

local LOCAL = "DNS:localhost,IP:127.0.0.1,IP:::1"
local PASSWORD = "open sesame"

-- Every certificate that is no authority: who signs it, its subject and names, what it is for,
-- and the dates (start, end) where these matter.
local LEAVES = {
  server = { ca = "ca", cn = "localhost", san = LOCAL, purpose = "serverAuth" },
  renewed = { ca = "ca", cn = "renewed", san = LOCAL, purpose = "serverAuth" },
  a = { ca = "ca", cn = "a.example", san = "DNS:a.example", purpose = "serverAuth" },
  b = { ca = "ca", cn = "b.example", san = "DNS:b.example", purpose = "serverAuth" },
  wild = { ca = "ca", cn = "wild", san = "DNS:*.wild.example", purpose = "serverAuth" },
  other_ip = { ca = "ca", cn = "192.0.2.1", san = "IP:192.0.2.1", purpose = "serverAuth" },
  v4_only = { ca = "ca", cn = "v4", san = "IP:127.0.0.1", purpose = "serverAuth" },
  v6_only = { ca = "ca", cn = "v6", san = "IP:::1", purpose = "serverAuth" },
  ip_as_name = { ca = "ca", cn = "127.0.0.1", san = "DNS:127.0.0.1", purpose = "serverAuth" },
  no_san = { ca = "ca", cn = "localhost", purpose = "serverAuth" },
  many = {
    ca = "ca", cn = "many names", purpose = "serverAuth",
    san = LOCAL .. ",DNS:many.example,email:root@many.example,URI:https://many.example/x",
  },
  odd = { ca = "ca", cn = 'Zo\u{eb}, "Z" <z>; #1', san = LOCAL, purpose = "serverAuth" },
  expired = {
    ca = "ca", cn = "localhost", san = LOCAL, purpose = "serverAuth",
    dates = { "20200101000000Z", "20210203040506Z" },
  },
  early = {
    ca = "ca", cn = "localhost", san = LOCAL, purpose = "serverAuth",
    dates = { "20950101000000Z", "20960203040506Z" },
  },
  self_signed = { cn = "localhost", san = LOCAL, purpose = "serverAuth" },
  unknown = { ca = "other_ca", cn = "localhost", san = LOCAL, purpose = "serverAuth" },
  chained = { ca = "intermediate", cn = "localhost", san = LOCAL, purpose = "serverAuth" },
  wrong_purpose = { ca = "ca", cn = "localhost", san = LOCAL, purpose = "clientAuth" },
  client = { ca = "client_ca", cn = "client", purpose = "clientAuth" },
  client_renewed = { ca = "client_ca", cn = "client renewed", purpose = "clientAuth" },
  client_unknown = { ca = "other_ca", cn = "client", purpose = "clientAuth" },
  client_self_signed = { cn = "client", purpose = "clientAuth" },
  client_wrong_purpose = { ca = "client_ca", cn = "client", purpose = "serverAuth" },
  client_expired = {
    ca = "client_ca", cn = "client", purpose = "clientAuth",
    dates = { "20200101000000Z", "20210203040506Z" },
  },
}

-- What the openssl command needs besides its arguments: nothing of the system's settings.
local CONFIG = [[
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = dated
[dated]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
email_in_dn = no
[any]
commonName = supplied
organizationName = optional
]]

local NEW = "openssl req -config c.cnf -utf8 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

local function authority(name, words, signer)
  local by = signer and (" -CA %s.pem -CAkey %s.key"):format(signer, signer) or ""
  return ("%s -x509 -extensions authority -days 3650 -keyout %s.key -out %s.pem -subj '/O=Moonloop"
    .. "/CN=%s'%s"):format(NEW, name, name, words, by)
end

-- One line of shell that makes a certificate and its key.
local function leaf_line(name, leaf)
  local words = {
    NEW, ("-keyout %s.key -subj '/O=Moonloop/CN=%s'"):format(name, leaf.cn),
    "-addext basicConstraints=CA:false -addext extendedKeyUsage=" .. leaf.purpose,
  }
  if leaf.san then words[#words + 1] = "-addext subjectAltName=" .. leaf.san end
  if leaf.dates then
    words[#words + 1] = ("-new -out %s.csr"):format(name)
    words[#words + 1] = ("&& openssl ca -config c.cnf -batch -notext -in %s.csr -out %s.pem -cert"
      .. " %s.pem -keyfile %s.key -startdate %s -enddate %s"):format(name, name, leaf.ca, leaf.ca,
      table.unpack(leaf.dates))
  else
    words[#words + 1] = ("-x509 -days 365 -out %s.pem"):format(name)
    if leaf.ca then
      words[#words + 1] = ("-CA %s.pem -CAkey %s.key"):format(leaf.ca, leaf.ca)
    end
  end
  return table.concat(words, " ")
end

-- The whole work as one script: `openssl ca` keeps a database, so the dated ones come one by one.
local function recipe()
  local lines = { "set -e", "unset OPENSSL_CONF", ": >index.txt" }
  local function add(line) lines[#lines + 1] = line end
  add(authority("ca", "Moonloop authority"))
  add(authority("other_ca", "Other authority"))
  add(authority("client_ca", "Client authority"))
  add(authority("intermediate", "Moonloop intermediate", "ca"))
  for name, leaf in pairs(LEAVES) do add(leaf_line(name, leaf)) end
  add("cat chained.pem intermediate.pem >chain.pem")
  for name, key in pairs { encrypted = "server", client_encrypted = "client" } do
    add(("openssl ec -in %s.key -aes256 -passout 'pass:%s' -out %s.key"):format(key, PASSWORD,
      name))
  end
  add("mkdir hashed && cp ca.pem hashed/ && openssl rehash hashed")
  return table.concat(lines, "\n")
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local Folder = {
  __name = "CertificateFolder",
  __gc = function(self) os.execute("rm -rf " .. command.quote(self.path)) end,
}

local function make()
  local _, path = command.run { "mktemp", "-d", "/tmp/moonloop-certificates-XXXXXX" }
  local folder = setmetatable({ path = path:match("%S+") }, Folder)
  write(folder.path .. "/c.cnf", CONFIG)
  local status, out, err = command.run({ "sh", "-c", 'cd "$0" && ' .. recipe(), folder.path })
  assert(status == 0, out .. err)
  return folder
end

-- busted loads modules anew for each file of specs; the registry is what outlives that.
local function folder_path()
  local registry = debug.getregistry()
  local folder = registry["moonloop.spec.certificates"]
  if not folder then
    folder = make()
    registry["moonloop.spec.certificates"] = folder
  end
  return folder.path
end

local function paths(path)
  local all = { folder = path, hashed = path .. "/hashed" }
  for _, name in ipairs { "ca", "other_ca", "client_ca", "intermediate" } do
    all[name] = path .. "/" .. name .. ".pem"
    all[name .. "_key"] = path .. "/" .. name .. ".key"
  end
  for name in pairs(LEAVES) do
    all[name] = { cert = path .. "/" .. name .. ".pem", key = path .. "/" .. name .. ".key" }
  end
  all.chained.chain = path .. "/chain.pem"
  for name, leaf in pairs { encrypted = all.server, client_encrypted = all.client } do
    all[name] = { cert = leaf.cert, key = path .. "/" .. name .. ".key", password = PASSWORD }
  end
  return all
end

--- The text of a file.
function M.text(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

--- What `openssl x509` says of a certificate.
-- @param path the certificate's
-- @param ... the command's flags
-- @return its output, without the end of its last line
function M.describe(path, ...)
  local status, out, err = command.run { "openssl", "x509", "-noout", "-in", path, ... }
  assert(status == 0, err)
  return (out:gsub("\n$", ""))
end

return setmetatable(M, {
  __index = function(_, name)
    for key, value in pairs(paths(folder_path())) do M[key] = value end
    return rawget(M, name)
  end,
})

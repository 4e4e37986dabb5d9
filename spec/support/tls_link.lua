-- SPDX-License-Identifier: MIT
-- TLS between two Streams of this process without a server: over a socketpair, over a faulty
-- network, or over a wire whose middle the spec holds in its hands, so that it can look at what
-- passes, hold it back, cut it off or add to it. Builds on tls.lua and start_tls.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local M = {}

--- The versions of TLS that there are.
M.VERSIONS = { "TLSv1.2", "TLSv1.3" }

local made = {} -- a version ("" for any) -> contexts

--- Contexts of one version alone, each made once; every handshake is a full one.
-- @param version of VERSIONS; nil for both
-- @return client context, server context
function M.contexts(version)
  local key = version or ""
  if not made[key] then
    local range = { min_version = version, max_version = version }
    local client = tls.client {
      min_version = version, max_version = version, session_cache = false,
    }
    made[key] = { client, tls.server(nil, range) }
  end
  return table.unpack(made[key])
end

--- A TLS connection to a server of this process, of one version. Awaits.
-- @return as `tls.pair`
function M.pair(version)
  local client, server = M.contexts(version)
  return tls.pair { client = client, server = server }
end

--- Has both streams start TLS with each other. Awaits.
-- @param opts `client` and `server`: contexts; `version`
function M.upgrade(client, server, opts)
  opts = opts or {}
  local ours, theirs = M.contexts(opts.version)
  moonloop.gather(function()
    client:start_tls(opts.client or ours, { server_hostname = "localhost" })
  end, function()
    server:start_tls(opts.server or theirs)
  end)
end

local Link = {}
Link.__index = Link
Link.__name = "Link"
Link.__close = function(self)
  self.client:abort()
  self.peer:abort()
end

local function upgraded(client, peer, opts)
  local link = setmetatable({ client = client, peer = peer }, Link)
  local ok, err = pcall(M.upgrade, client, peer, opts)
  if ok then return link end
  link:__close()
  error(err, 0)
end

--- Two TLS streams, `client` and `peer`, over a socketpair, which a to-be-closed variable aborts.
-- Awaits.
-- @param opts as of `upgrade`; `limit` of both
function M.socketpair(opts)
  local client, peer = moonloop.socketpair { limit = opts and opts.limit }
  return upgraded(client, peer, opts)
end

--- The same with a faulty network between them.
-- @param faults options of fault_socketpair
-- @param opts as of `upgrade`
function M.faulty(faults, opts)
  local client, peer = moonloop.testing.fault_socketpair(faults)
  return upgraded(client, peer, opts)
end

-- ---- a wire ------------------------------------------------------------------

local Wire = {}
Wire.__index = Wire
Wire.__name = "Wire"

--- Lets go of all four streams. Awaits.
function Wire.__close(self)
  self:hold()
  for _, name in ipairs { "client", "near", "far", "peer" } do self[name]:abort() end
end

--- Two streams, `client` and `peer`, that are not connected: `near` is what the client is
-- connected to, `far` what the peer is, both plain. A to-be-closed variable aborts all.
-- @param client, near two connected Streams; a socketpair by default
function M.wire(client, near)
  if not client then client, near = moonloop.socketpair() end
  local far, peer = moonloop.socketpair()
  return setmetatable({ client = client, near = near, far = far, peer = peer }, Wire)
end

--- From now on passes on what comes, either way; what fails on one side ends both.
function Wire:flow()
  self.task = moonloop.create_task(function()
    if moonloop.pcall(moonloop.relay, self.near, self.far) then return end
    self.near:abort()
    self.far:abort()
  end)
end

--- Passes on nothing more. What has been sent is passed on before. Awaits.
function Wire:hold()
  if not self.task then return end
  moonloop.testing.wait_all_blocked()
  tasks.cancel(self.task)
  self.task = nil
end

--- Starts TLS between both and holds the wire then. Awaits.
-- @param opts as of `upgrade`
function Wire:start_tls(opts)
  self:flow()
  M.upgrade(self.client, self.peer, opts)
  self:hold()
end

--- Takes a whole TLS record, its header included. Awaits.
-- @param from `near` or `far`
-- @return nil at the end of file
function M.record(from)
  local header = from:readexactly(5)
  if not header then return nil end
  return header .. from:readexactly((string.unpack(">I2", header, 4)))
end

--- A wire over which TLS has been started, and which holds. Awaits.
-- @param opts as of `upgrade`
function M.tls_wire(opts)
  local wire = M.wire()
  local ok, err = pcall(wire.start_tls, wire, opts)
  if ok then return wire end
  Wire.__close(wire)
  error(err, 0)
end

return M

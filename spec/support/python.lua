-- SPDX-License-Identifier: MIT
-- Programs of python3 with its ssl module, as peers of the TLS specs, with the certificates of
-- certificates.lua. Builds on peers.lua and background.lua.
local assert = require "luassert"
local background = require "spec.support.background"
local certs = require "spec.support.certificates"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local script = require "spec.support.script"

local M = {}

-- What every program begins with.
local PRELUDE = [[
import asyncio, hashlib, os, socket, ssl, sys

CERTS, PORT = sys.argv[1], int(sys.argv[2])

def client_context(leaf=None):
    context = ssl.create_default_context(cafile=f"{CERTS}/ca.pem")
    if leaf:
        context.load_cert_chain(f"{CERTS}/{leaf}.pem", f"{CERTS}/{leaf}.key")
    return context

def server_context(leaf="server", client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{CERTS}/{leaf}.pem", f"{CERTS}/{leaf}.key")
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(f"{CERTS}/{client_ca}.pem")
    return context

def connect(context=None, **options):
    """Connect as the blocking ssl module does."""
    plain = socket.create_connection(("127.0.0.1", PORT), 20)
    return (context or client_context()).wrap_socket(plain, server_hostname="localhost", **options)

def open_connection(context=None):
    """Connect as asyncio's streams do."""
    return asyncio.open_connection("127.0.0.1", PORT, ssl=context or client_context(),
        server_hostname="localhost")

def listening(server):
    print("serving on", server.sockets[0].getsockname()[1], flush=True)

def serve(handle, context=None):
    """Serve as asyncio's streams do, for ever."""
    async def main():
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        listening(server)
        await server.serve_forever()
    asyncio.run(main())

]]

--- Pends the spec unless python3 and openssl are there.
function M.need()
  local missing = programs.missing("python3", "openssl")
  if missing then pending(missing .. " is not installed") end
end

--- Runs a program to its end. Awaits.
-- @param source what comes after the prelude; PORT there is the server's
-- @param server a Server
-- @return what it printed
function M.run(source, server)
  local folder <close> = script.folder()
  local path = folder:write("program.py", PRELUDE .. source)
  local status, out = peers.run(("exec python3 %s %s %d"):format(path, certs.folder,
    server:port()))
  assert.equal(0, status, out)
  return out
end

local Server = { __name = "PythonServer" }
Server.__index = Server

--- What the program has said so far, errors included.
function Server:output()
  return self.program:output()
end

function Server:__close()
  local _ <close> = self.folder
  local _ <close> = self.program
end

--- Starts a program, which a to-be-closed variable ends, and waits until it listens. Awaits.
-- @param source what comes after the prelude; it has to call listening() or serve()
-- @return an object with `output`, the port
function M.serve(source)
  local folder = script.folder()
  local path = folder:write("server.py", PRELUDE .. source)
  local program = background.start({ "python3", path, certs.folder, "0" }, "serving on (%d+)")
  return setmetatable({ folder = folder, program = program }, Server),
    math.tointeger(program.found)
end

return M

-- SPDX-License-Identifier: MIT
-- `moonloop.tls`: what programs see of tls_contexts.lua.

local contexts = require "moonloop.tls_contexts"

return {
  client_context = contexts.client_context,
  server_context = contexts.server_context,
}

-- SPDX-License-Identifier: MIT
-- TLS inside programs in C: the program of spec/embed/ checks itself and says what it did.
local certs = require "spec.support.certificates"
local command = require "spec.support.command"
local stock = require "spec.support.stock"

describe("An embedding program", function()
  it("turns the loop inside a callback, and what TLS still holds is told afterwards", function()
    assert.same({ 0, "data\nend\n", "" }, { command.run({
      stock.build .. "/embed/nested_tls", certs.ca, certs.server.cert, certs.server.key,
    }, { timeout = 120 }) })
  end)
end)

-- SPDX-License-Identifier: MIT
-- A busted output handler for machines beside people: prints what busted
-- prints, and appends "ok NAME", "not ok NAME" or "skipped NAME" for each test
-- to the file that MOONLOOP_TEST_REPORT names, at once, so that a crash loses
-- nothing that came before it.
local busted = require "busted"
local plain = require "busted.outputHandlers.plainTerminal"

local WORDS = { success = "ok", pending = "skipped", failure = "not ok", error = "not ok" }

return function(options)
  local handler = plain(options)
  local report = assert(io.open(os.getenv("MOONLOOP_TEST_REPORT"), "a"))
  report:setvbuf("line")

  local function write(word, element)
    report:write(word, " ", (handler.getFullName(element):gsub("\n", " ")), "\n")
  end

  busted.subscribe({ "test", "end" }, function(element, _, status)
    write(WORDS[status] or "not ok", element)
    return nil, true
  end)

  -- Outside a test: a file that does not load, a failing setup or teardown.
  local function outside(element)
    if element.descriptor ~= "it" then write("not ok", element) end
    return nil, true
  end
  busted.subscribe({ "error" }, outside)
  busted.subscribe({ "failure" }, outside)

  return handler
end

-- SPDX-License-Identifier: MIT
-- Runs a program to its end and hands back all it said. Builds on /bin/sh and
-- temporary files alone, so it needs no part of what is under test, and blocks.
local M = {}

--- Quotes `text` as one word of the shell.
function M.quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- The words of `argv` as one line of the shell.
function M.line(argv)
  local words = {}
  for i, word in ipairs(argv) do words[i] = M.quote(word) end
  return table.concat(words, " ")
end

local function assignments(env)
  local words = {}
  for name, value in pairs(env) do
    if value == false then
      table.insert(words, 1, "-u " .. name)
    else
      words[#words + 1] = M.quote(name .. "=" .. value)
    end
  end
  return table.concat(words, " ")
end

local function take(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  os.remove(path)
  return text
end

local function put(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Runs `argv` (the program first, sought in PATH) and waits for its end.
-- @param opts `stdin` (text, nothing by default), `env` (name to value, false
--   unsets one), `timeout` (seconds, 30 by default; it ends with status 124)
-- @return the exit status (128 and the number when a signal ended it), what it
--   wrote to its standard output, and to its standard error
function M.run(argv, opts)
  opts = opts or {}
  local input, out, err = os.tmpname(), os.tmpname(), os.tmpname()
  put(input, opts.stdin or "")
  local line = ("exec timeout -k 2 %g env %s %s <%s >%s 2>%s"):format(opts.timeout or 30,
    assignments(opts.env or {}), M.line(argv), input, out, err)
  local _, how, status = os.execute(line)
  os.remove(input)
  if how == "signal" then status = 128 + status end
  return status, take(out), take(err)
end

return M

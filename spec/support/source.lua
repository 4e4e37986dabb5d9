-- SPDX-License-Identifier: MIT
-- The project's own files as text, for the specs that look at how the code is
-- laid out. Paths are relative to the top of the tree, where specs run.
local lfs = require "lfs"

local M = {}

local function walk(folder, extensions, paths)
  for name in lfs.dir(folder) do
    local path = folder .. "/" .. name
    if name:sub(1, 1) ~= "." then
      if lfs.attributes(path, "mode") == "directory" then
        walk(path, extensions, paths)
      elseif extensions[name:match("%.(%w+)$")] then
        paths[#paths + 1] = path
      end
    end
  end
end

--- Lists the files below `folders` with one of the extensions (a set), sorted.
function M.list(folders, extensions)
  local paths = {}
  for _, folder in ipairs(folders) do
    if M.exists(folder) then walk(folder, extensions, paths) end
  end
  table.sort(paths)
  return paths
end

function M.exists(path)
  return lfs.attributes(path, "mode") ~= nil
end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

--- Iterates over the lines of a text: number, line.
function M.lines(text)
  local number = 0
  local next_line = text:gmatch("([^\n]*)\n?")
  return function()
    local line = next_line()
    number = number + 1
    return line and number, line
  end
end

-- The end of the Lua string or long bracket that begins at `at`, if one does.
local function string_end(text, at)
  local level = text:match("^%[(=*)%[", at)
  if level then
    return select(2, text:find("]" .. level .. "]", at, true)) or #text
  end
  local quote = text:match("^[\"']", at)
  if not quote then return nil end
  local i = at + 1
  while i <= #text and text:sub(i, i) ~= quote do
    i = i + (text:sub(i, i) == "\\" and 2 or 1)
  end
  return i
end

--- A Lua text with its comments made blank; line numbers stay.
function M.without_comments(text)
  local pieces, at = {}, 1
  while at <= #text do
    local start = text:find("%-%-", at) or #text + 1
    local quoted = text:find("[\"'%[]", at) or #text + 1
    if quoted < start then
      local last = string_end(text, quoted) or quoted
      pieces[#pieces + 1] = text:sub(at, last)
      at = last + 1
    else
      pieces[#pieces + 1] = text:sub(at, start - 1)
      local last = text:match("^%[=*%[", start + 2) and string_end(text, start + 2)
        or (text:find("\n", start, true) or #text + 1) - 1
      pieces[#pieces + 1] = text:sub(start, last):gsub("[^\n]", " ")
      at = last + 1
    end
  end
  return table.concat(pieces)
end

return M

-- SPDX-License-Identifier: MIT
-- Runs scripts under the command in a folder of their own, so that the specs see
-- short names in messages. Builds on command.lua; judges nothing.
local command = require "spec.support.command"

local M = {}

local function shell_line(line)
  local pipe = assert(io.popen(line))
  local answer = pipe:read("l")
  pipe:close()
  return answer
end

--- The folder that the specs run in: the source tree.
M.root = shell_line("pwd")

local function absolute(path)
  if path:sub(1, 1) == "/" then return path end
  return M.root .. "/" .. path
end

--- The command under test, absolute.
M.binary = absolute(os.getenv("MOONLOOP") or "build/moonloop")

local Folder = {}
Folder.__index = Folder
Folder.__name = "Folder"
Folder.__close = function(self) os.execute("rm -rf " .. command.quote(self.path)) end

--- Makes an empty temporary folder, which a to-be-closed variable removes.
function M.folder()
  return setmetatable({ path = shell_line("mktemp -d") }, Folder)
end

--- Writes a file into the folder, making folders on the way.
-- @return its absolute path
function Folder:write(name, text)
  local path = self.path .. "/" .. name
  os.execute("mkdir -p " .. command.quote(path:match("^(.*)/")))
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- The text of a file of the folder.
function Folder:read(name)
  local file = assert(io.open(self.path .. "/" .. name, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

--- Runs `argv` in the folder, with command.run's options.
function Folder:run(argv, opts)
  local inside = { "/bin/sh", "-c", 'cd "$0" && exec "$@"', self.path }
  table.move(argv, 1, #argv, #inside + 1, inside)
  return command.run(inside, opts)
end

--- Runs the command under test in the folder.
function Folder:moonloop(args, opts)
  return self:run({ M.binary, table.unpack(args) }, opts)
end

--- Runs a piece of shell in the folder; `$MOONLOOP` is the command under test.
function Folder:shell(text, opts)
  opts = opts or {}
  opts.env = opts.env or {}
  opts.env.MOONLOOP = M.binary
  return self:run({ "/bin/sh", "-c", text }, opts)
end

--- Runs `source` as script.lua.
-- @param opts command.run's, and `args` for the script, `flags` to stand before
--   it, `program` to run instead of the command under test
-- @return status, stdout, stderr
function M.run(source, opts)
  opts = opts or {}
  local folder <close> = M.folder()
  folder:write("script.lua", source)
  local argv = { opts.program or M.binary }
  for _, flag in ipairs(opts.flags or {}) do argv[#argv + 1] = flag end
  argv[#argv + 1] = "script.lua"
  for _, arg in ipairs(opts.args or {}) do argv[#argv + 1] = arg end
  return folder:run(argv, opts)
end

--- Runs `moonloop -e code`.
-- @return status, stdout, stderr
function M.one_line(code, opts)
  return command.run({ M.binary, "-e", code }, opts)
end

return M

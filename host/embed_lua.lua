-- SPDX-License-Identifier: MIT
-- Writes the C file that holds the library's Lua files (see lua_files.h), on
-- standard output. Run by the Makefile: lua5.4 embed_lua.lua ROOT FILE...
-- Arrays of numbers, since a string literal has limits and escapes. A file
-- that does not compile ends the build here, with its line.

local function fail(message)
  io.stderr:write(message, "\n")
  os.exit(1)
end

local function read(path)
  local file, message = io.open(path, "rb")
  if not file then fail(message) end
  local text = file:read("a")
  file:close()
  local _, syntax_error = load(text, "@" .. path, "t")
  if syntax_error then fail(syntax_error) end
  return text
end

local function write_bytes(name, text)
  io.write("static const unsigned char ", name, "[] = {\n")
  for first = 1, #text, 20 do
    local last = math.min(first + 19, #text)
    io.write(table.concat({ text:byte(first, last) }, ","), ",\n")
  end
  io.write("0};\n\n")
end

local function collect(root, paths)
  local files = {}
  for _, full in ipairs(paths) do
    local path = full:sub(#root + 2)
    local module = path:gsub("%.lua$", ""):gsub("/", ".")
    files[#files + 1] = { module = module, path = path, text = read(full) }
  end
  table.sort(files, function(a, b) return a.module < b.module end)
  return files
end

local files = collect(arg[1], { table.unpack(arg, 2) })
io.write("// Made by host/embed_lua.lua.\n#include \"lua_files.h\"\n\n")
for i, file in ipairs(files) do
  write_bytes("file_" .. i, file.text)
end
io.write("const LuaFile lua_files[] = {\n")
for i, file in ipairs(files) do
  io.write(('  {"%s", "%s", (const char *)file_%d, %d},\n')
    :format(file.module, file.path, i, #file.text))
end
io.write("  {0},\n};\n")

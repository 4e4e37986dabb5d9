-- SPDX-License-Identifier: MIT
-- The command's flags: Lua's own, its own, wrong ones, and the environment that
-- it reads as Lua does. What a program is given is in command_spec.
local script = require "spec.support.script"

local function flags(args, opts)
  local folder <close> = script.folder()
  return folder:moonloop(args, opts)
end

describe("moonloop -W", function()
  it("turns warnings on", function()
    local _, out, err = flags({ "-W", "-e", "warn('look', ' out')" })
    assert.equal("", out)
    assert.matches("Lua warning: look out\n", err, 1, true)
  end)

  it("is needed to see warnings", function()
    local _, _, err = flags({ "-e", "warn('unseen')" })
    assert.equal("", err)
  end)

  it("is the same as the control message @on", function()
    local _, _, err = flags({ "-e", "warn('@on') warn('seen') warn('@off') warn('gone')" })
    assert.equal("Lua warning: seen\n", err)
  end)
end)

describe("moonloop -E", function()
  it("ignores LUA_INIT, LUA_PATH and LUA_CPATH", function()
    local env = { LUA_INIT = "print 'init'", LUA_PATH = "/odd/?.lua", LUA_CPATH = "/odd/?.so" }
    local code = "print(package.path:find('odd'), package.cpath:find('odd'))"
    local status, out = flags({ "-E", "-e", code }, { env = env })
    assert.equal("nil\tnil\n", out)
    assert.equal(0, status)
  end)

  it("finds moonloop all the same", function()
    local _, out = flags({ "-E", "-e", "moonloop.sleep(0) print 'ok'" })
    assert.equal("ok\n", out)
  end)
end)

describe("LUA_INIT", function()
  it("is run before everything else", function()
    local env = { LUA_INIT = "print 'init' x = 1" }
    local _, out = flags({ "-e", "print(x)" }, { env = env })
    assert.equal("init\n1\n", out)
  end)

  it("names a file when it begins with @", function()
    local folder <close> = script.folder()
    folder:write("init.lua", "print('from file', arg[1])")
    local env = { LUA_INIT = "@init.lua" }
    local _, out = folder:moonloop({ "-e", "print 'main'" }, { env = env })
    assert.equal("from file\t-e\nmain\n", out)
  end)

  it("gives way to LUA_INIT_5_4", function()
    local env = { LUA_INIT = "print 'plain'", LUA_INIT_5_4 = "print 'versioned'" }
    local _, out = flags({ "-e", "" }, { env = env })
    assert.equal("versioned\n", out)
  end)

  it("ends the command with status 1 when it fails, before the script", function()
    local env = { LUA_INIT = "error 'bad init'", LUA_INIT_5_4 = false }
    local status, out, err = flags({ "-e", "print 'ran'" }, { env = env })
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("LUA_INIT:1: bad init", err, 1, true)
  end)

  it("may be a file that is missing, which is an error", function()
    local status, _, err = flags({ "-e", "" }, { env = { LUA_INIT = "@nosuch.lua" } })
    assert.equal(1, status)
    assert.matches("nosuch.lua", err, 1, true)
  end)
end)

describe("moonloop -v", function()
  it("says which Lua and which Moonloop this is, and ends with 0", function()
    local status, out, err = flags({ "-v" })
    assert.equal(0, status)
    assert.equal("", err)
    assert.matches("Lua 5%.4", out)
  end)

  it("goes on to run what else was asked for", function()
    local _, out = flags({ "-v", "-e", "print 'then this'" })
    assert.matches("Lua 5%.4.*\nthen this\n$", out)
  end)
end)

describe("moonloop --version", function()
  it("prints the version on standard output and ends with 0", function()
    local status, out, err = flags({ "--version" })
    assert.equal(0, status)
    assert.equal("", err)
    assert.matches("^[Mm]oonloop 0%.1%.0", out)
  end)
end)

describe("moonloop --help", function()
  it("prints the usage on standard output and ends with 0", function()
    for _, flag in ipairs({ "-h", "--help" }) do
      local status, out, err = flags({ flag })
      assert.equal(0, status)
      assert.equal("", err)
      assert.matches("[Uu]sage", out)
    end
  end)

  it("names every flag of the contract", function()
    local _, out = flags({ "--help" })
    for _, flag in ipairs({ "-e", "-i", "-l", "-m", "-W", "-E", "-v", "--version", "--debug" }) do
      assert.is_truthy(out:find(flag, 1, true), flag .. " is not in the usage text")
    end
  end)
end)

describe("moonloop --", function()
  it("ends the flags, so that a script's name may begin with a dash", function()
    local folder <close> = script.folder()
    folder:write("-odd.lua", "print('odd', ...)")
    local status, out = folder:moonloop({ "--", "-odd.lua", "-e" })
    assert.equal("odd\t-e\n", out)
    assert.equal(0, status)
  end)
end)

describe("moonloop --debug", function()
  local code = "print(moonloop.get_running_loop():get_debug())"

  it("puts the loop in debug mode", function()
    local _, out = flags({ "--debug", "-e", code })
    assert.equal("true\n", out)
  end)

  it("is the same as MOONLOOP_DEBUG=1", function()
    local _, out = flags({ "-e", code }, { env = { MOONLOOP_DEBUG = "1" } })
    assert.equal("true\n", out)
  end)

  it("is off unless asked for", function()
    local _, out = flags({ "-e", code }, { env = { MOONLOOP_DEBUG = false } })
    assert.equal("false\n", out)
  end)
end)

describe("A wrong flag", function()
  it("ends the command with status 2 and the usage on standard error", function()
    for _, flag in ipairs({ "--nosuch", "-z", "-vE", "-Wx", "--debugx", "---" }) do
      local status, out, err = flags({ flag, "-e", "print 'ran'" })
      assert.equal(2, status, flag)
      assert.equal("", out)
      assert.matches("[Uu]sage", err)
      assert.is_truthy(err:find(flag, 1, true), flag .. " is not named")
    end
  end)

  it("runs nothing of what stands before it", function()
    local status, out = flags({ "-e", "print 'ran'", "-z" })
    assert.equal(2, status)
    assert.equal("", out)
  end)

  it("may be a flag whose argument is missing", function()
    for _, flag in ipairs({ "-e", "-l" }) do
      local status, _, err = flags({ flag })
      assert.equal(2, status)
      assert.is_truthy(err:find(flag, 1, true))
    end
  end)
end)

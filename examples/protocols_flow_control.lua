-- SPDX-License-Identifier: MIT
-- What: pause_writing tells a protocol that too much is waiting to be sent, resume_writing that
--       there is room again; pause_reading stops data_received.
-- Why: a transport's write never waits, so a protocol has to stop by itself, or the memory fills
--      with what the other side has not taken yet.
-- Usage: moonloop examples/protocols_flow_control.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local PIECE, TOTAL = ("x"):rep(50000), 10000000

local Source = moonloop.Protocol:extend { sent = 0, pauses = 0, most = 0 }

function Source:connection_made(transport)
  transport:set_write_buffer_limits(200000, 50000) -- high and low water, in bytes
  self.transport = transport
  self:produce()
end

function Source:produce()
  while not self.paused and self.sent < TOTAL do
    self.transport:write(PIECE) -- may call pause_writing
    self.sent = self.sent + #PIECE
    self.most = math.max(self.most, self.transport:get_write_buffer_size())
  end
  if self.sent == TOTAL then
    self.transport:close() -- what is waiting is sent first
  end
end

function Source:pause_writing()
  self.paused = true
  self.pauses = self.pauses + 1
end

function Source:resume_writing()
  self.paused = false
  self:produce()
end

local Sink = moonloop.Protocol:extend { received = 0 }

function Sink:connection_made(transport)
  self.ended = moonloop.Future()
  transport:pause_reading() -- a slow beginning
  loop:call_later(0.05, transport.resume_reading, transport)
end

function Sink:data_received(data)
  self.received = self.received + #data
end

function Sink:connection_lost()
  self.ended:set_result()
end

local source = Source:new()
local server <close> = loop:create_server(function() return source end, "127.0.0.1", 0)
local _, sink = loop:create_connection(Sink, "127.0.0.1", server:port())
sink.ended:await()
print("received", sink.received)
print("paused", source.pauses > 0)
print("never more waiting than", 250000, source.most <= 250000)

# SPDX-License-Identifier: MIT
# A TCP peer that does on request what no Lua side of the specs can do for sure:
# reset a connection, hold a backlog full, listen without accepting. It connects
# to the given port, takes a command in each line and answers each with a line.
import socket
import struct
import sys

control = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
lines = control.makefile("rw", newline="\n")
held = []
peer = None
listener = None


def connect(port):
    global peer
    peer = socket.create_connection(("127.0.0.1", int(port)))
    return "connected"


def listen(backlog):
    global listener
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(int(backlog))
    return str(listener.getsockname()[1])


def accept():
    global peer
    peer, _ = listener.accept()
    return "accepted"


def listen_full():
    """Listen with a queue that is full: who connects now waits."""
    port = listen(0)
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", int(port)))
        held.append(filler)
    return port


def send(text):
    peer.sendall(text.encode())
    return "sent"


def recv(count):
    data = b""
    while len(data) < int(count):
        piece = peer.recv(int(count) - len(data))
        if not piece:
            break
        data += piece
    return data.decode() or "eof"


def reset():
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    return "reset"


def close():
    peer.close()
    return "closed"


commands = {f.__name__: f for f in (connect, listen, accept, listen_full, send, recv, reset, close)}
for line in lines:
    name, *args = line.rstrip("\n").split(" ", 1)
    lines.write(commands[name](*args) + "\n")
    lines.flush()

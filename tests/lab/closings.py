# SPDX-License-Identifier: GPL-2.0-or-later
"""Open many short MPTCP connections and end them in many ways.

    closings.py server ADDRESS PORT
    closings.py client ADDRESS PORT COUNT [--ways WAY,WAY,...] [--parallel N] [--seed N]

Connection number i ends in way i of the list, taken round and round. Each
moves a number of bytes between 10 kB and 5 MB, spread evenly over the orders of
magnitude, up (client to server), down, or both at once. The ways:

    client-close    all arrives; the client closes first
    server-close    all arrives; the server closes first
    shutdown        all arrives; the client shuts down its direction, then the server closes
    client-abort    the client drops the connection after that many bytes, in the middle of the stream
    server-abort    the same by the server
    client-unread   the client closes after that many bytes, without having read the rest
    server-unread   the same by the server

The server prints "listening" and ends with its standard input. The client
prints how many connections it made in each way, as JSON; it fails if one that
should end well did not, and never runs for longer than LIMIT seconds.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import random
import signal
import socket
import struct
import sys
import threading

IPPROTO_MPTCP = 262
GRACEFUL = ("client-close", "server-close", "shutdown")
ABORTS = ("client-abort", "server-abort", "client-unread", "server-unread")
WAYS = GRACEFUL + ABORTS
UP, DOWN, BOTH = range(3)
SMALLEST, LARGEST = 10_000, 5_000_000
ENDLESS = 1 << 40  # the end that is left by the other never comes to its own end
PATIENCE, LIMIT = 20, 60  # seconds: one step of a connection, the whole client
# Room for all of a connection: with less, Linux 6.18 stops for ever when the data of slower subflows
# fill the buffer before those that are next in the stream.
RECEIVE_BUFFER = 8 << 20
SO_RCVBUFFORCE = 33
HEAD = struct.Struct("!BBQ")  # way, direction, size
CHUNK = bytes(1 << 16)


class Failed(Exception):
    """A connection ended too early or too late."""


def make_socket(address):
    """An MPTCP socket for the family of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)  # what is accepted inherits it
    return made


def send(connection, size):
    """Send size bytes."""
    while size > 0:
        size -= connection.send(CHUNK[:size])


def receive(connection, size):
    """Read size bytes."""
    while size > 0:
        data = connection.recv(min(size, len(CHUNK)))
        if not data:
            raise Failed(f"ended {size} bytes too early")
        size -= len(data)


def exchange(connection, sent, received):
    """Send and receive that many bytes, at the same time."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, connection, sent)
        receive(connection, received)
        sending.result()


def take_part(connection, role, way, direction, size):
    """What the client or the server does from the head of a connection up to its close."""
    sends = direction in (UP if role == "client" else DOWN, BOTH)
    receives = direction in (DOWN if role == "client" else UP, BOTH)
    leaver = way.split("-")[0]
    if way in ABORTS and role != leaver:
        try:
            exchange(connection, ENDLESS * sends, ENDLESS * receives)
        except socket.timeout:
            raise
        except (OSError, Failed):  # a reset has several faces
            return
    exchange(connection, size * sends, size * receives)
    if way.endswith("abort"):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif way.endswith("unread"):
        connection.recv(1, socket.MSG_PEEK)
    elif way == "shutdown" and role == "client":
        connection.shutdown(socket.SHUT_WR)
    if way in GRACEFUL and role != leaver and connection.recv(1):
        raise Failed("more came than was asked for")


def serve(options):
    """Take part in all connections until the end of standard input."""
    listener = make_socket(options.address)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((options.address, options.port))
    listener.listen(1000)
    failures = []

    def answer(connection):
        with connection:
            connection.settimeout(PATIENCE)
            head = b""
            with contextlib.suppress(OSError):  # the client has dropped it before we looked
                head = connection.recv(HEAD.size, socket.MSG_WAITALL)
            if len(head) < HEAD.size:
                return
            way, direction, size = HEAD.unpack(head)
            try:
                take_part(connection, "server", WAYS[way], direction, size)
            except (OSError, Failed) as error:
                failures.append(f"{WAYS[way]}: {error!r}")

    def accept():
        while True:
            with contextlib.suppress(ConnectionAbortedError):
                threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("listening", flush=True)
    sys.stdin.read()
    if failures:
        sys.exit("closings: server: " + "; ".join(failures[:5]))


def plan(options):
    """Yield (way, direction, size) of each connection; the same for the same seed."""
    dice = random.Random(options.seed)
    for number in range(options.count):
        way = options.ways[number % len(options.ways)]
        directions = [UP, DOWN, BOTH]
        if way.endswith("unread"):  # the other end must have sent something
            directions.remove(UP if way.startswith("client") else DOWN)
        yield way, dice.choice(directions), int(SMALLEST * (LARGEST / SMALLEST) ** dice.random())


def connect(options):
    """Make all connections, some at a time, and say how many there were of each way."""
    def one(way, direction, size):
        with make_socket(options.address) as connection:
            connection.settimeout(PATIENCE)
            connection.connect((options.address, options.port))
            connection.sendall(HEAD.pack(WAYS.index(way), direction, size))
            take_part(connection, "client", way, direction, size)
        return way

    def give_up(*unused):
        os.write(2, f"closings: client: not done after {LIMIT} s\n".encode())
        os._exit(1)  # threads that hang cannot be joined

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT)
    done: collections.Counter = collections.Counter()
    failures = []
    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        for future, planned in [(pool.submit(one, *planned), planned) for planned in plan(options)]:
            try:
                done[future.result()] += 1
            except (OSError, Failed) as error:
                failures.append(f"{planned}: {error!r}")
    print(json.dumps(done))
    if failures:
        sys.exit(f"closings: client: {len(failures)} failed: " + "; ".join(failures[:5]))


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Open many connections and end them in many ways.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int, nargs="?")
    parser.add_argument("--ways", type=lambda text: text.split(","), default=WAYS)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not set(options.ways) <= set(WAYS):
        parser.error(f"ways are {', '.join(WAYS)}")
    (serve if options.role == "server" else connect)(options)


if __name__ == "__main__":
    main()

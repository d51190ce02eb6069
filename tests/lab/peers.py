# SPDX-License-Identifier: GPL-2.0-or-later
"""Open many connections and hold them: the program behind Lab.hold().

    peers.py server ADDRESS PORT COUNT [--tcp] [--dual-stack]
    peers.py client ADDRESS PORT COUNT [--tcp] [--payload HEX]

The server prints "listening", and echoes what it gets.  Both print "ready"
when all connections are open and all payloads came back, and end when their
standard input does, so that they cannot outlive the one who started them.
"""

import argparse
import errno
import resource
import select
import socket
import sys

IPPROTO_MPTCP = 262
BATCH = 500  # connects under way at a time; the listen queue takes them all


def make_socket(address, tcp):
    """A socket for the family of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, 0 if tcp else IPPROTO_MPTCP)


def say(text):
    """Tell the parent."""
    print(text, flush=True)


def serve(options):
    """Accept COUNT connections, or more, and echo until the end of input."""
    listener = make_socket(options.address, options.tcp)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not options.dual_stack)
    listener.bind((options.address, options.port))
    listener.listen(65535)
    listener.setblocking(False)
    say("listening")
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    held = {}
    accepted = 0
    while True:
        for fd, _ in poll.poll(maxevents=BATCH):
            if fd == sys.stdin.fileno():
                return
            if fd != listener.fileno():
                echo(held, fd)
                continue
            for connection in accept_all(listener):
                held[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                accepted += 1
                if accepted == options.count:
                    say("ready")


def accept_all(listener):
    """The connections that wait to be accepted."""
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # A client that gave up in the meantime.
            if error.errno != errno.ECONNABORTED:
                raise
            continue
        connection.setblocking(False)
        yield connection


def echo(held, fd):
    """Send back what arrived; forget a connection that was closed."""
    connection = held[fd]
    try:
        data = connection.recv(65536)
        if data:
            connection.setblocking(True)
            connection.sendall(data)
            connection.setblocking(False)
            return
    except OSError:
        pass
    del held[fd]
    connection.close()


def connect(options):
    """Open COUNT connections in batches, exchange the payload, hold them."""
    payload = bytes.fromhex(options.payload)
    held = []
    while len(held) < options.count:
        batch = [start(options) for _ in range(min(BATCH, options.count - len(held)))]
        finish(batch)
        for connection in batch:
            connection.sendall(payload)
        for connection in batch:
            receive(connection, len(payload))
        held += batch
    say("ready")
    sys.stdin.read()


def start(options):
    """Begin one connect."""
    connection = make_socket(options.address, options.tcp)
    connection.setblocking(False)
    try:
        connection.connect((options.address, options.port))
    except BlockingIOError:
        pass
    return connection


def finish(batch):
    """Wait until the connects of a batch are done; make the sockets blocking."""
    poll = select.epoll()
    waiting = {connection.fileno(): connection for connection in batch}
    for connection in batch:
        poll.register(connection, select.EPOLLOUT)
    while waiting:
        events = poll.poll(timeout=30)
        if not events:
            sys.exit(f"peers: {len(waiting)} connections do not get through")
        for fd, _ in events:
            connection = waiting.pop(fd)
            poll.unregister(fd)
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                sys.exit(f"peers: connect: {errno.errorcode.get(error, error)}")
            connection.settimeout(30)
    poll.close()


def receive(connection, size):
    """Read size bytes."""
    while size:
        data = connection.recv(size)
        if not data:
            sys.exit("peers: the server closed a connection")
        size -= len(data)


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Open many connections and hold them.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--tcp", action="store_true", help="plain TCP")
    parser.add_argument("--dual-stack", action="store_true", help=":: takes IPv4 as well")
    parser.add_argument("--payload", default="", metavar="HEX")
    options = parser.parse_args()
    files = options.count + 100
    hard = max(files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    (serve if options.role == "server" else connect)(options)


if __name__ == "__main__":
    main()

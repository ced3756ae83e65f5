"""Ports for the servers that tests start as processes, and start again."""

import random
import socket

#: Below every range from which systems choose for ``bind(0)`` and for outgoing connections (Linux
#: from 32,768, others from 49,152). A port from there may be somebody's client, or a server of
#: another test, a moment after it was found free, or while our server is down between two kills.
PORTS = range(20_000, 32_000)

#: Keeps our ports ours until this process ends.
_claims: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and that no other process gets from here.

    Its UDP namesake is held as the claim: no server of ours wants that one, so that it need not
    be let go before the server starts, or while it is started again.
    """
    order = random.SystemRandom()  # a test's seed must not lead two processes to the same ports
    for _ in range(1000):
        port = order.choice(PORTS)
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise OSError(f"found no free port from {PORTS[0]} to {PORTS[-1]} in 1000 tries")

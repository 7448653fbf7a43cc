"""Descriptors that travel over a Unix socket with the bytes they belong to."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket


def receive_with_fds(socket: Socket) -> tuple[bytes, list[int]]:
    """Return the next bytes of a Unix stream socket and the descriptors that came with them."""
    import _socket

    data, ancillary, _, _ = socket.recvmsg(65536, _socket.CMSG_SPACE(16 * 4))
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += memoryview(content[: len(content) // 4 * 4]).cast("i")
    for fd in fds:
        os.set_inheritable(fd, False)
    return data, fds


def send_with_fds(socket: Socket, data: bytes, fds: list[int]) -> int:
    """Send bytes with descriptors; return how many bytes were taken."""
    import _socket

    content = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    return socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, content)] if fds else [])


__all__ = ["receive_with_fds", "send_with_fds"]

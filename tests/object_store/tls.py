"""How do tests get an S3 behind TLS, with a certificate that no machine knows? A proxy before the real one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme

__all__ = ["behind_tls"]


@contextlib.contextmanager
def behind_tls(url: str, authority: trustme.CA) -> Iterator[str]:
    """The same server as `https://`, with a certificate of that authority."""
    host, _, port = url.rpartition("/")[2].partition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = (host, int(port))
        threading.Thread(target=_accept, args=(listener, context, target), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            # Closed: the test is over.
            return
        threading.Thread(target=_serve, args=(plain, context, target), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    # A client that does not trust the certificate hangs up.
    with (
        contextlib.suppress(OSError),
        context.wrap_socket(plain, server_side=True) as client,
        socket.create_connection(target) as server,
    ):
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

"""The live page: photos explained in a browser, on this machine (extra `web`)."""

import contextlib
import secrets
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import replace

from chiaroscuro.errors import ChoiceError, missing_extra
from chiaroscuro.web.settings import ServerSettings as ServerSettings

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(settings: ServerSettings, *, browse: bool = False, say: Callable[[str], object]) -> None:
    """Serve the page until interrupted; `say` gets its address.

    Where other machines can reach the host, the address holds a token, and nothing is answered
    without it. Raises `ChoiceError` for a host or port that cannot be had, `MissingExtraError`.
    """
    try:
        import uvicorn

        from chiaroscuro.web.app import Server
    except ImportError as error:
        raise missing_extra("the live page", error.name or "starlette", "web") from error
    if settings.host not in LOOPBACK and settings.token is None:
        settings = replace(settings, token=secrets.token_urlsafe(16))
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        bound = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ChoiceError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror or error}): "
            "choose another --port or --host"
        ) from error
    settings = replace(settings, port=bound.getsockname()[1])
    server = Server(settings)
    server.models.get(settings.models[0])
    config = uvicorn.Config(
        server.app(),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=100,
        timeout_graceful_shutdown=2,
    )
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{name}:{settings.port}/"
    address += f"?token={settings.token}" if settings.token else ""
    say(address)
    if browse:
        webbrowser.open(address)
    with bound, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[bound])

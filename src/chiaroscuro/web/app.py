"""The server: pages and answers over HTTP, for browsers that it knows."""

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import PurePath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chiaroscuro.classifier import Classifier
from chiaroscuro.data.stored import StoredMaps
from chiaroscuro.errors import ChiaroscuroError, InputError, first_line, printable
from chiaroscuro.images import decode_photo, packaged_photo
from chiaroscuro.viewer import Feed
from chiaroscuro.web import answers
from chiaroscuro.web.answers import Change, Models, Question
from chiaroscuro.web.jobs import BusyError, Job, Lane
from chiaroscuro.web.settings import ServerSettings
from chiaroscuro.web.visitors import Answer, GoneError, Upload, Visitor, Visitors

T = TypeVar("T")

MOST_UPLOAD = 32 << 20
MOST_QUESTION = 1 << 16
"""Bytes of a request's body."""
UPLOAD_SECONDS = 60.0
MOST_WAITING = 16
_BEAT = 0.25
"""Seconds between two looks whether the browser is still there."""
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_FILES = {
    "/web/page.js": "text/javascript",
    "/web/page.css": "text/css",
    "/viewer/viewer.js": "text/javascript",
    "/viewer/viewer.css": "text/css",
}
"""Everything that is served as a file: no name from a browser reaches the disk."""


@dataclass(eq=False)
class Server:
    """One running page: its models, visitors and the two lanes of computations."""

    settings: ServerSettings
    visitors: Visitors = field(default_factory=Visitors)

    def __post_init__(self) -> None:
        chosen = self.settings
        self.models = Models(chosen.models, chosen.device, chosen.texts)
        offered = {name: packaged_photo(name) for name in ("cat", "coffee")}
        self.samples = offered | {path.name: path for path in chosen.photos}
        self.stored = [StoredMaps.open(folder) for folder in chosen.stored]
        self.cookie = f"chiaroscuro_{chosen.port}"
        self.explain_lane = Lane("explain", MOST_WAITING)
        self.change_lane = Lane("change", MOST_WAITING)
        self._decoding = asyncio.Semaphore(2)  # large photos take 300 MB each meanwhile

    def app(self) -> ASGIApp:
        """The ASGI application."""
        routes = [
            Route("/", self.page),
            Route("/api/choices", self.choices),
            Route("/api/classes", self.classes),
            Route("/api/photos", self.upload, methods=["POST"]),
            Route("/api/samples", self.sample, methods=["POST"]),
            Route("/api/explain", self.explain, methods=["POST"]),
            Route("/api/change", self.change, methods=["POST"]),
            Route("/api/result.zip", self.result),
            *(Route(path, partial(_file, path, kind)) for path, kind in _FILES.items()),
        ]
        errors: dict[Any, Any] = {ChiaroscuroError: _refuse, ClientDisconnect: _refuse}
        app = Starlette(routes=routes, exception_handlers=errors, lifespan=self._lifespan)
        return Gate(app, self.settings)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.explain_lane.close()
        self.change_lane.close()

    async def page(self, request: Request) -> Response:
        """The page; a cookie makes its visitor known, where the address may."""
        token, key = self.settings.token, request.cookies.get(self.cookie)
        given = request.query_params.get("token")
        if token is not None and given is None and self.visitors.find(key) is None:
            words = "this page needs the whole address that the server printed, with its token"
            return Response(words, 401, media_type="text/plain")
        same = secrets.compare_digest((given or "").encode(), (token or "").encode())
        if token is not None and given is not None and not same:
            return Response("the address holds another token", 401, media_type="text/plain")
        visitor = self.visitors.welcome(key)
        response: Response
        if given is not None:  # the token leaves the address line
            response = RedirectResponse("/", 303)
        else:
            response = _file("/web/page.html", "text/html", request)
        response.set_cookie(self.cookie, visitor.key, httponly=True, samesite="strict", path="/")
        return response

    async def choices(self, request: Request) -> Response:
        """What can be chosen."""
        self._visitor(request)
        return _json(answers.choices(self.models, self.samples))

    async def classes(self, request: Request) -> Response:
        """The names of a model's classes."""
        self._visitor(request)
        model = request.query_params.get("model", "")
        return _json(await _in_thread(partial(self.models.classes, model)))

    async def upload(self, request: Request) -> Response:
        """Keep a photo of a visitor, once it can be read."""
        visitor = self._visitor(request)
        data = await _body(request, MOST_UPLOAD, "the photo")
        name = printable(request.query_params.get("name", "photo"))[:200] or "photo"
        return await self._keep(visitor, Upload(PurePath(name).name or "photo", data))

    async def sample(self, request: Request) -> Response:
        """Keep one of the photos that the server offers."""
        visitor = self._visitor(request)
        wanted = await _asked(request, dict[str, str])
        path = self.samples.get(wanted.get("name", ""))
        if path is None:
            raise GoneError("no such photo is offered")
        return await self._keep(visitor, Upload(path.name, path.read_bytes(), str(path)))

    async def _keep(self, visitor: Visitor, upload: Upload) -> Response:
        async with self._decoding:
            photo = await _in_thread(partial(decode_photo, upload.data, upload.name))
        key = self.visitors.keep_photo(visitor, upload)
        width, height = photo.image.size
        facts = {"photo": key, "name": upload.name, "width": width, "height": height}
        return _json({**facts, "sha256": photo.sha256, "notes": list(photo.notes)})

    async def explain(self, request: Request) -> Response:
        """Explain a photo: first against few rivals, then against all, as lines of JSON."""
        visitor = self._visitor(request)
        question = await _asked(request, Question)
        upload = self.visitors.photo(visitor, question.photo)

        def work(job: Job) -> dict[str, Any]:
            classifier = self.models.get(question.model)
            kept = answers.stored_answer(classifier, question, upload, self.stored)
            few = answers.first_rivals(classifier, question)
            if kept is not None:
                job.report(self._explained(visitor, classifier, *kept, whole=False, stored=True))
            elif few is not None:
                quick = answers.explained(classifier, question, upload, job, few)
                job.report(self._explained(visitor, classifier, *quick, whole=False))
            whole = answers.explained(classifier, question, upload, job, question.rivals)
            return self._explained(visitor, classifier, *whole, whole=True)

        owner = (visitor.key, question.tab, question.pane)
        return self._stream(request, self.explain_lane, owner, work)

    def _explained(
        self, visitor: Visitor, classifier: Classifier, answer: Answer, feed: Feed, **state: bool
    ) -> dict[str, Any]:
        key = self.visitors.keep_answer(visitor, answer)
        return answers.explanation_message(key, answer, feed, classifier, **state)

    async def change(self, request: Request) -> Response:
        """Change the photo of an explanation, and say what comes of it."""
        visitor = self._visitor(request)
        change = await _asked(request, Change)
        answer = self.visitors.answer(visitor, change.answer)

        def work(job: Job) -> dict[str, Any]:
            return answers.changed(self.models.get(answer.model), change, answer, job)

        owner = (visitor.key, change.tab, change.pane)
        return self._stream(request, self.change_lane, owner, work)

    async def result(self, request: Request) -> Response:
        """The folder of an explanation, as `save` writes it, in one file."""
        visitor = self._visitor(request)
        answer = self.visitors.answer(visitor, request.query_params.get("answer", ""))
        data = await _in_thread(partial(answers.archive, answer.explanation))
        headers = {"content-disposition": 'attachment; filename="chiaroscuro-explanation.zip"'}
        return Response(data, media_type="application/zip", headers=headers)

    def _visitor(self, request: Request) -> Visitor:
        visitor = self.visitors.find(request.cookies.get(self.cookie))
        if visitor is None:
            raise UnknownVisitorError("this browser is not known here (any more): reload the page")
        return visitor

    def _stream(
        self,
        request: Request,
        lane: Lane,
        owner: tuple[str, str, int],
        work: Callable[[Job], dict[str, Any]],
    ) -> Response:
        """Messages of a job, each a line."""
        loop, messages = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()

        def report(message: dict[str, Any] | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(messages.put_nowait, message)

        job = Job(owner, work, report, self.settings.seconds)
        lane.add(job)

        async def lines() -> AsyncIterator[bytes]:
            while True:
                try:
                    message = await asyncio.wait_for(messages.get(), _BEAT)
                except TimeoutError:
                    if await request.is_disconnected():
                        return
                    continue
                if message is None:
                    return
                yield msgspec.json.encode(message) + b"\n"

        return _Stream(lines(), partial(lane.leave, job))


class _Stream(StreamingResponse):
    """Lines as they come, then `end`: also where the browser leaves before the first."""

    def __init__(self, lines: AsyncIterator[bytes], end: Callable[[], None]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self.end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.end()


class UnknownVisitorError(InputError):
    """A browser without the cookie of a visitor."""


class Gate:
    """Lets in only what comes from a page of this server, and adds headers to what goes out.

    The Host header must be an address in numbers, a name of this machine or the one that is bound:
    a page of another site, whose name was pointed here, has its own. The Origin and Sec-Fetch-Site
    headers of a question must not name another site.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.names = {"localhost", settings.host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        refusal = self._refusal(headers, scope["method"])

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        if refusal:
            response = Response(refusal, 403, media_type="text/plain")
            await response(scope, receive, with_headers)
        else:
            await self.app(scope, receive, with_headers)

    def _refusal(self, headers: dict[str, str], method: str) -> str:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return "this server is not called by that name"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "the question comes from a page of another site"
        site, dest = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-dest")
        is_link = method == "GET" and dest == "document"  # no picture or frame of another page
        if site not in ("same-origin", "none") and not is_link:
            return "the question comes from a page of another site"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True


def _file(path: str, kind: str, _: Request) -> Response:
    """A file of this package by its path there."""
    data = resources.files("chiaroscuro").joinpath(*path.split("/")[1:]).read_bytes()
    return Response(data, media_type=kind)


def _refuse(_: Request, error: Exception) -> Response:
    """An error of ours as one line with the status that fits it."""
    status = 400
    if isinstance(error, TooLargeError):
        status = 413
    elif isinstance(error, BusyError):
        status = 503
    elif isinstance(error, GoneError):
        status = 404
    elif isinstance(error, UnknownVisitorError):
        status = 401
    return JSONResponse({"state": "error", "message": first_line(error)}, status)


class TooLargeError(InputError):
    """A body over its limit."""


async def _body(request: Request, most: int, what: str) -> bytes:
    """The body of a request, of at most so many bytes, within `UPLOAD_SECONDS`."""
    limit = f"{what} is larger than {most >> 20} MB" if most >= 1 << 20 else f"{what} is too large"
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise TooLargeError(f"{limit}: scale it down")
    parts, size = [], 0
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise TooLargeError(f"{limit}: scale it down")
                parts.append(part)
    except TimeoutError:
        raise InputError(f"{what} did not arrive within {UPLOAD_SECONDS:g} s") from None
    return b"".join(parts)


async def _asked(request: Request, kind: type[T]) -> T:
    """The JSON of a request in its form; raises `InputError` for any other."""
    data = await _body(request, MOST_QUESTION, "the question")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"the question cannot be read ({first_line(error)})") from error


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")  # NaN is null

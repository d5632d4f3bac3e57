"""The HTTP interface: images in, the same answers as the app's out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shpeft.config.schema import SeriesRule
from shpeft.errors import ShpeftError
from shpeft.reports.dicom import DicomResults
from shpeft.service import limits, openapi
from shpeft.service.limits import RateLimit, Refused
from shpeft.service.worker import Worker

RULES = get_args(SeriesRule)

HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names of this computer; a foreign name that was made to point to it (DNS rebinding) is none of them."""

Handler = Callable[[Request], Awaitable[Response]]


def create_app(
    workers: Sequence[Worker], token: str, *, per_minute: int = 60, most: int = limits.BODY_BYTES
) -> Starlette:
    """Return the service as an ASGI application.

    Args:
        workers: the models; the first one is the default.
        token: what requests have to carry.
        per_minute: how many requests a minute are answered.
        most: most bytes of a request.
    """
    models = {worker.run.name: worker for worker in workers}
    description = openapi.document(list(models), RULES)
    rate = RateLimit(per_minute)

    def guarded(handler: Handler, *parameters: str) -> Handler:
        async def checked(request: Request) -> Response:
            limits.check_token(request, token)
            limits.check_rate(rate)
            limits.check_parameters(request, parameters)
            return await handler(request)

        return checked

    def chosen(request: Request) -> Worker:
        name = request.query_params.get("model", workers[0].run.name)
        if name not in models:
            raise Refused(404, f"There is no model of this name; there are {', '.join(models)}.")
        if models[name].waiting >= limits.MOST_WAITING:
            raise Refused(503, "The model is busy. Try again later.", {"Retry-After": "10"})
        return models[name]

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def describe(_: Request) -> Response:
        return JSONResponse(description)

    async def list_models(_: Request) -> Response:
        return JSONResponse([await run_in_threadpool(worker.facts) for worker in workers])

    async def diagnose(request: Request) -> Response:
        worker = chosen(request)
        rule: Any = request.query_params.get("series_rule")
        if rule is not None and rule not in RULES:
            raise Refused(422, f"There is no such rule; there are {', '.join(RULES)}.")
        data = await limits.read_body(request, most)
        answer: Any = await _done(worker, lambda: worker.answer_series(data, rule) if rule else worker.answer(data))
        return JSONResponse(answer)

    async def results(request: Request) -> Response:
        worker, data = chosen(request), await limits.read_body(request, most)
        made: DicomResults = await _done(worker, lambda: worker.results(data))
        return Response(made.as_zip(), media_type="application/zip")

    routes = [
        Route("/healthz", health),
        Route("/openapi.json", describe),
        Route("/api/models", guarded(list_models)),
        Route("/api/diagnose", guarded(diagnose, "model", "series_rule"), methods=["POST"]),
        Route("/api/results", guarded(results, "model"), methods=["POST"]),
    ]
    handlers = {Refused: _refused, ShpeftError: _unusable, HTTPException: _http, Exception: _failed}
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))]
    return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)  # type: ignore[arg-type]


async def _done(worker: Worker, work: Callable[[], Any]) -> Any:
    return await asyncio.wrap_future(worker.submit(work))


async def _refused(_: Request, error: Refused) -> Response:
    return JSONResponse({"error": error.sentence}, error.status, error.headers)


async def _unusable(_: Request, error: ShpeftError) -> Response:
    return JSONResponse({"error": str(error).replace("the uploaded file", "The file")}, 422)


async def _http(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _failed(_: Request, error: Exception) -> Response:
    """Answer a defect without its message, which may quote the file."""
    return JSONResponse({"error": f"shpeft failed ({type(error).__name__}). Its log says more."}, 500)

"""The application: its routes, middleware and error handlers, and the objects that live as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import audit, docs, health, me, monitoring
from api.aliases.routes import router as aliases
from api.auth import GUARD, Keyring
from api.chat.routes import router as chat
from api.dashboard.routes import add_page
from api.deps import Service
from api.desk import Desk
from api.files.routes import router as files
from api.fleet.routes import router as fleet
from api.group_commit import GroupWriter
from api.handlers import add_handlers
from api.jobs import intake
from api.jobs.routes import router as jobs
from api.keys.routes import router as keys
from api.kinds.routes import router as kinds
from api.manifest_signing import Signer
from api.middleware import Edge
from api.models.routes import router as models
from api.openai.routes import router as openai
from api.openapi import add_openapi
from api.plans.routes import router as plans
from api.preview.routes import router as preview
from api.rates import Rates
from api.samples.routes import router as samples
from api.session.routes import router as session
from api.session.routes import signing_in
from api.settings import ApiSettings, key_secret
from api.spend.routes import router as spend
from api.stream.feed import Feed
from api.stream.routes import router as stream
from db.curve_cache import CurveCache
from db.session import Database
from db.settings import StorageSettings, WebhookSettings
from db.webhook_secrets import WebhookSecrets
from workers.queue import Dispatcher


def create_app(
    settings: ApiSettings,
    storage: StorageSettings,
    database: Database | None = None,
    broker_url: str | None = None,
) -> FastAPI:
    """Create the service as an ASGI application, whose lifespan runs the dispatcher.

    `broker_url` defaults to TRAINYARD_BROKER_URL.

    Raises:
        ValueError: there is no secret yet; `python -m api.bootstrap` makes one.
    """
    database = database or Database(storage.database_url)
    secret = key_secret(settings, storage.home)
    app = FastAPI(
        title="Trainyard",
        version=version("trainyard"),
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = Service(
        settings=settings,
        database=database,
        curve_cache=CurveCache(),
        blobs=storage.open_blobs(),
        keyring=Keyring(database, secret, Rates(settings.requests_per_minute)),
        feed=Feed(database),
        dispatcher=Dispatcher(database, broker_url),
        desk=Desk(storage.desk_socket),
        webhook_secrets=WebhookSecrets(secret),
        receivers=WebhookSettings().receivers,
        manifest_signer=Signer(storage.home),
        intake=GroupWriter(database, intake.write),
    )
    for router in (
        jobs, stream, files, models, aliases, kinds, plans, preview, chat, samples, fleet, keys, spend, me.router, session,
        openai, audit.router,
    ):  # fmt: skip
        app.include_router(router, prefix="/v1", dependencies=[GUARD])
    app.include_router(monitoring.router, dependencies=[GUARD])
    app.include_router(signing_in, prefix="/v1")
    for router in (health.router, docs.router):
        app.include_router(router)
    add_handlers(app)
    add_openapi(app)
    add_page(app, settings)
    app.add_middleware(Edge)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.dispatcher.start()
    yield
    service.feed.close()
    service.dispatcher.stop()

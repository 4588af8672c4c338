"""The application: routes, and what every request goes through."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from service.api import (
    answers,
    audit_events,
    bulk_deletions,
    containers,
    context,
    core_dumps,
    deletions,
    docs,
    gc_runs,
    gc_schedules,
    health,
    images,
    jobs,
    manifests,
    me,
    openapi,
    page,
    problems,
    reference,
    registries,
    repositories,
    samples,
    tags,
    tokens,
    ulimits,
    verifications,
)
from service.api.base import Api, Application
from service.api.context import Services

BLUEPRINTS = (
    registries.blueprint,
    repositories.blueprint,
    tags.blueprint,
    manifests.blueprint,
    deletions.blueprint,
    bulk_deletions.blueprint,
    gc_runs.blueprint,
    gc_schedules.blueprint,
    verifications.blueprint,
    containers.blueprint,
    ulimits.blueprint,
    core_dumps.blueprint,
    images.blueprint,
    jobs.blueprint,
    me.blueprint,
    tokens.blueprint,
    audit_events.blueprint,
    health.blueprint,
)

MADE_OF_IT: Mapping[str, Callable[[openapi.Document], str]] = {
    "http": samples.as_requests,
    "markdown": reference.as_markdown,
}


def create_app(services: Services) -> Application:
    """Make the WSGI application; raise RuntimeError when a change would go unaudited."""
    app, document = _described()
    app.extensions[openapi.DOCUMENT] = document
    context.install(app, services)
    answers.register(app)
    problems.register(app)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(page.blueprint)
    app.require_audited()
    return app


def openapi_document(form: str = "json") -> str:
    """Write the OpenAPI document, as it is served and checked in; or what is made of it."""
    written = _described()[1]
    return written if form == "json" else MADE_OF_IT[form](json.loads(written))


def _described() -> tuple[Application, str]:
    app = Application()
    api = Api(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    return app, openapi.render(api.spec.to_dict())

"""Pages for people: templates under a policy that lets nothing in but what the service sends."""

from __future__ import annotations

from flask import Response, make_response, render_template, request

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render(template: str, policy: str = POLICY, **values: object) -> Response:
    """Answer with a template, which knows as ``root`` the prefix the service is mounted under."""
    response = make_response(render_template(template, root=request.root_path, **values))
    response.headers["Content-Security-Policy"] = policy
    return response

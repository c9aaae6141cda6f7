"""Serve /docs: Swagger UI from the package fastapi-offline, which needs no internet."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

FILES = "/docs/files"
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'"
)


def install(app: FastAPI) -> None:
    """Serve /docs and its files; the browser requests the schema with the user's credentials."""

    def page(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        assert app.openapi_url, "Swagger UI needs the schema"
        response = get_swagger_ui_html(
            openapi_url=root + app.openapi_url,
            title="ucurve: REST",
            swagger_js_url=f"{root}{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{FILES}/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        response.headers["Content-Security-Policy"] = f"{POLICY}; frame-ancestors 'none'"
        return response

    app.mount(FILES, StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-files")
    app.add_route("/docs", page, include_in_schema=False)

"""Refuse JSON that cannot be stored before it is validated: NUL, lone surrogates, deep nesting.

Postgres stores no NUL, UTF-8 has no lone surrogates, and code that walks a value recursively fails
on one that is nested too deeply.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from api.errors import ApiError
from ucurve.schemas.problems import INVALID_INPUT, FieldError
from ucurve.schemas.validation_messages import pointer_of

MAX_DEPTH = 32  # of nested lists and objects
MAX_ERRORS = 20
Link = tuple[Any, "str | int"] | None  # the link of the container, and the key in it


async def require_storable_body(request: Request) -> None:
    """Answer 422 with a pointer to each text that cannot be stored (a dependency of the app)."""
    if not request.scope["route"].body_field:
        return
    try:
        data = await request.json()  # parsed already, to be validated next
    except (json.JSONDecodeError, UnicodeDecodeError):
        return  # validation says so
    if errors := await run_in_threadpool(problems_of, data):
        raise ApiError(422, INVALID_INPUT, errors)


def problems_of(data: Any) -> list[FieldError]:
    """Return what cannot be stored of a JSON value, at most MAX_ERRORS."""
    errors: list[FieldError] = []
    pending: list[tuple[Any, Link, int]] = [(data, None, 0)]
    while pending and len(errors) < MAX_ERRORS:
        value, link, depth = pending.pop()
        if isinstance(value, str):
            if problem := _text_problem(value):
                errors.append(FieldError(pointer=_pointer(link), detail=problem))
        elif isinstance(value, list | dict):
            if depth == MAX_DEPTH:
                detail = f"Must be nested at most {MAX_DEPTH} levels deep."
                errors.append(FieldError(pointer=_pointer(link), detail=detail))
                continue
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                if isinstance(key, str) and (problem := _text_problem(key)):
                    detail = f"A name in it is not valid. {problem}"
                    errors.append(FieldError(pointer=_pointer(link), detail=detail))
                elif isinstance(item, str | list | dict):
                    pending.append((item, (link, key), depth + 1))
    return errors


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return "Must not contain NUL (\\u0000)."
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "Must not contain half a surrogate pair (\\ud800 to \\udfff)."
    return None


def _pointer(link: Link) -> str:
    keys: list[str | int] = []
    while link is not None:
        link, key = link
        keys.append(key)
    return pointer_of(reversed(keys))

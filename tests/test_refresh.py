"""Shared queries and redrawing: a page is redrawn when an outcome it shows has changed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dashboard.components import downloads
from dashboard.live import refresh
from dashboard.live.refresh import RenderedPage
from dashboard.live.shared_query import SharedQuery
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.schemas.problems import Problem

CLIENT = Client("http://127.0.0.1:9", token="")


def failing(error: Exception) -> Callable[[], Any]:
    def fetch() -> Any:
        raise error

    return fetch


def refusal(status: int) -> RequestRejectedError:
    return RequestRejectedError(status, Problem(title="refused", status=status))


UNREACHABLE = failing(ApiUnavailableError("no answer"))
GONE = failing(refusal(404))


@pytest.mark.parametrize(
    ("fetch", "drawn", "changed"),
    [
        (lambda: {"done": 3}, {"done": 3}, False),
        (lambda: {"done": 4}, {"done": 3}, True),
        (UNREACHABLE, {"done": 3}, True),
        (UNREACHABLE, (ApiUnavailableError, None), False),
        (lambda: {"done": 3}, (ApiUnavailableError, None), True),
        (GONE, {"done": 3}, True),
        (GONE, (RequestRejectedError, 404), False),
        (GONE, (RequestRejectedError, 500), True),
        (GONE, (ApiUnavailableError, None), True),
    ],
    ids=[
        "the same answer",
        "another answer",
        "unreachable after an answer",
        "still unreachable",
        "an answer after being unreachable",
        "not found after an answer",
        "still not found",
        "not found after a server error",
        "not found after being unreachable",
    ],
)
def test_a_page_is_redrawn_when_an_outcome_it_shows_has_changed(
    fetch: Callable[[], Any], drawn: Any, changed: bool
) -> None:
    page = RenderedPage({"other": (lambda: 1, 1), "query": (fetch, drawn)})
    assert page.changed() is changed


def test_every_drawing_has_a_number_by_which_the_browser_knows_it() -> None:
    assert RenderedPage().number != RenderedPage().number


def test_a_page_that_no_longer_polls_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    active, closed = RenderedPage(polled_at=10.0), RenderedPage(polled_at=5.0)
    monkeypatch.setattr(refresh, "pages", {"active": active, "closed": closed})
    refresh.drop_pages(polled_before=7.0)
    assert refresh.pages == {"active": active}


def outcome(query: SharedQuery[Any]) -> Any:
    try:
        return query.get(CLIENT)
    except (ApiUnavailableError, RequestRejectedError) as error:
        return getattr(error, "status", "unreachable")


@pytest.mark.parametrize("status", [404, 410, 422, 500])
@pytest.mark.parametrize("first", [[], ["seen"]], ids=["never seen", "seen before"])
def test_a_refusal_is_the_outcome_for_every_session_until_the_next_request(
    status: int, first: list[str]
) -> None:
    answers: list[Any] = [*first, refusal(status)]
    requests = []

    def fetch(_: Client) -> Any:
        requests.append(1)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    query = SharedQuery(fetch, interval=100.0)
    for seen in first:
        assert outcome(query) == seen
        query.invalidate()
    assert [outcome(query) for _ in range(3)] == [status] * 3
    assert len(requests) == len(first) + 1
    answers.append("again")
    query.invalidate()
    assert outcome(query) == "again"


def test_a_refusal_of_one_token_does_not_answer_for_the_next_session() -> None:
    answers: Iterator[Any] = iter([refusal(401), "seen"])

    def fetch(_: Client) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    query = SharedQuery(fetch, interval=100.0)
    assert [outcome(query) for _ in range(3)] == [401, "seen", "seen"]


def test_an_invalidation_during_a_request_is_not_lost() -> None:
    numbers = iter(range(10))

    def fetch(_: Client) -> int:
        number = next(numbers)
        if number == 0:
            query.invalidate()  # an action while the request is under way
        return number

    query: SharedQuery[int] = SharedQuery(fetch, interval=100.0)
    assert [outcome(query) for _ in range(3)] == [0, 1, 1]


def test_a_page_may_add_queries_while_it_is_polled() -> None:
    page = RenderedPage()

    def fetch() -> int:  # the script adds a query while the polling route is at this one
        page.add(f"query {len(page.queries)}", lambda: 1, 1)
        return 1

    page.add("first", fetch, 1)
    page.add("second", fetch, 1)
    assert not page.changed()
    assert len(page.queries) == 4


class SlowDownloads(OrderedDict[str, downloads.Download]):
    def __setitem__(self, key: str, download: downloads.Download) -> None:
        super().__setitem__(key, download)
        time.sleep(0.02)  # other sessions come in between


def test_sessions_offer_downloads_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_DOWNLOADS", 1)
    monkeypatch.setattr(downloads, "downloads", SlowDownloads())
    monkeypatch.setattr(downloads.st, "html", lambda _: None)

    def offer(name: str) -> None:
        downloads.download_link("file", lambda: b"", "file", "text/plain", name)

    with ThreadPoolExecutor(6) as sessions:
        list(sessions.map(offer, "abcdef"))
    assert len(downloads.downloads) == 1

"""What Prometheus reads of a server, and the bounds that its command line sets."""

from __future__ import annotations

import hashlib

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from afmrl.errors import InputError
from afmrl.serving.keys import Keys
from afmrl.serving.limits import Limits
from afmrl.serving.metrics import Measured, Metrics

pytest_plugins = ["serving_shop"]
KEY = "k" * 24
READ = Keys({hashlib.sha256(KEY.encode()).hexdigest(): "read"})


def counts(answer):
    """Name and labels of each sample -> its value, as Prometheus reads the answer."""
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_requests_passes_and_rows_are_counted(served):
    client = served()
    for body in ({"inputs": "red dress"}, {"inputs": ["navy coat", "mug"]}, {"inputs": ""}):
        client.post("/embed", json=body)
    client.get("/nowhere")
    client.get("/elsewhere")
    found = counts(client.get("/metrics"))
    assert found["afmrl_requests_total", "/embed", "200", "POST"] == 2
    assert found["afmrl_requests_total", "/embed", "400", "POST"] == 1
    assert found["afmrl_requests_total", "404", "GET", "other"] == 2  # whatever is asked for, there are few series
    assert found["afmrl_request_seconds_count", "/embed", "POST"] == 3
    assert (found["afmrl_pass_inputs_count",], found["afmrl_pass_inputs_sum",]) == (2, 3)
    assert found["afmrl_model_seconds_count", "embedder"] == 2 and found["afmrl_model_seconds_sum", "embedder"] > 0
    assert found["afmrl_index_rows",] == 60 and found["afmrl_inputs_waiting",] == 0
    assert found["process_resident_memory_bytes",] > 0
    client.post("/afmrl/v1/offers", json={"offers": [{"id": "new", "title": "a sofa"}]})
    assert counts(client.get("/metrics"))["afmrl_index_rows",] == 61


def test_what_is_refused_for_want_of_room_is_counted_and_the_counts_are_still_given(served):
    client = served(limits=Limits(bodies_bytes=5))
    assert client.post("/embed", json={"inputs": "red dress"}).status_code == 429
    assert counts(client.get("/metrics"))["afmrl_requests_total", "/embed", "429", "POST"] == 1


def test_counts_need_a_key_where_there_are_keys(served):
    client = served(keys=READ)
    assert client.get("/metrics").status_code == 401
    found = counts(client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}))
    assert found["afmrl_requests_total", "/metrics", "401", "GET"] == 1


def test_a_database_that_is_away_hides_no_other_count():
    metrics = Metrics()

    def away() -> float:
        raise InputError("the database is away")

    metrics.watch("rows", "Rows.", away)
    metrics.watch("waiting", "Waiting.", lambda: 3)
    assert b"\nrows NaN\n" in metrics.text() and b"\nwaiting 3.0\n" in metrics.text()


def test_a_request_that_fails_is_counted_as_500():
    app, metrics = FastAPI(), Metrics()

    @app.get("/fails")
    def fails() -> None:
        raise RuntimeError

    app.add_middleware(Measured, metrics=metrics, paths=["/fails"])
    assert TestClient(app, raise_server_exceptions=False).get("/fails").status_code == 500
    assert b'afmrl_requests_total{method="GET",route="/fails",status="500"} 1.0' in metrics.text()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch", 0, "--limits.batch 0: give a number above 0"),
        ("batch", 2001, "--limits.batch 2,001: give at most 2,000"),
        ("seconds", "inf", "--limits.seconds inf: give a number above 0"),
        ("window", "nan", "--limits.window nan: give a number of 0 or more"),
        ("window", 61, "--limits.window 61.0: give at most 60"),
        ("seconds", 1e10, "--limits.seconds 10,000,000,000.0: give at most 86,400"),
        ("seconds", 86_401, "--limits.seconds 86,401.0: give at most 86,400"),
        ("body_bytes", "9" * 400, "--limits.body-bytes: has too many digits; give at most 4,611,686,018,427,387,904"),
        ("tokens", "-" + "9" * 400, "--limits.tokens"),
        ("bodies_bytes", 1, "--limits.bodies-bytes 1: one request may have 33,554,432"),
    ],
)
def test_a_bound_with_which_nothing_could_be_answered_is_refused(call, shop_index, option, value, message):
    code, _, err = call("serve", shop_index, f"--limits.{option}", value)
    assert code == 2 and message in err and "Traceback" not in err


@pytest.mark.parametrize("seconds", [1e10, 86_400.5])
def test_more_seconds_than_a_thread_can_wait_are_refused(seconds):
    with pytest.raises(InputError, match=r"--limits\.seconds .*: give at most 86,400"):
        Limits(seconds=seconds).check()
    Limits(seconds=86_400).check()


def test_bounds_of_the_command_line_reach_the_server(call, shop_index, monkeypatch):
    given = {}
    monkeypatch.setattr("afmrl.serving.server.serve", lambda *_, **options: given.update(options))
    assert call("serve", shop_index, "--limits.batch", 3, "--limits.window=0", "--limits.image-pixels", 9)[0] == 0
    assert given["limits"] == Limits(batch=3, window=0.0, image_pixels=9)


def test_tokens_bound_what_one_pass_reads(served):
    client = served(limits=Limits(tokens=1))
    assert client.post("/embed", json={"inputs": ["red dress", "navy coat"]}).status_code == 200
    found = counts(client.get("/metrics"))
    assert (found["afmrl_pass_inputs_count",], found["afmrl_pass_inputs_sum",]) == (2, 2)

"""What the official OpenAI SDK sees when its base_url is the sidecar."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

PRIORITIES = ["low", "normal", "high", "urgent"]


def say(client, text="hello", model="nvidia/echo", **options):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **options)


def words(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


# --- Answers ---


def test_a_plain_answer(sidecar, upstream):
    answer = say(sidecar.client(), "good morning")
    assert answer.choices[0].message.content == "good morning"
    assert answer.usage.total_tokens == 2
    request = upstream.received[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer client-key"
    assert request.headers["user-agent"].startswith("OpenAI/Python")


def test_the_sidecars_key_replaces_the_clients_and_its_own_headers_stop_here(start, upstream):
    sidecar = start(API_KEY="nvapi-of-the-sidecar")
    say(sidecar.client(), extra_headers={"X-Priority": "urgent", "X-Sidecar-Max-Wait": "5"})
    headers = upstream.received[0].headers
    assert headers["authorization"] == "Bearer nvapi-of-the-sidecar"
    assert not {"x-priority", "x-sidecar-max-wait"} & headers.keys()


def test_a_stream_arrives_piece_by_piece(sidecar, upstream):
    first_seen = threading.Event()

    def in_two_steps(exchange, _):
        exchange.begin_stream()
        exchange.say("one ")
        assert first_seen.wait(10), "the first piece did not arrive while the second was still to come"
        exchange.say("two")
        exchange.end_stream()

    upstream.on["nvidia/steps"] = in_two_steps
    stream = say(sidecar.client(), model="nvidia/steps", stream=True)
    first = next(stream).choices[0].delta.content
    first_seen.set()
    assert (first, words(stream)) == ("one ", "two")


def test_the_stream_helper_collects_the_whole(sidecar):
    with sidecar.client().chat.completions.stream(
        model="nvidia/echo", messages=[{"role": "user", "content": "a b c"}]
    ) as stream:
        assert stream.get_final_completion().choices[0].message.content == "a b c "


def test_embeddings(sidecar):
    answer = sidecar.client().embeddings.create(model="nvidia/embed", input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[0.25, 0.5], [0.25, 1.5]]


def test_the_list_of_models(sidecar):
    assert [model.id for model in sidecar.client().models.list()] == ["nvidia/a"]


def test_a_large_request_and_its_large_answer(sidecar):
    text = "é" * 2_000_000
    assert say(sidecar.client(), text).choices[0].message.content == text


def test_raw_responses_carry_the_sidecars_headers(sidecar, upstream):
    client = sidecar.client()
    first = client.chat.completions.with_raw_response.create(
        model="nvidia/echo", messages=[{"role": "user", "content": "hello"}]
    )
    assert first.headers["x-request-id"]
    assert int(first.headers["x-sidecar-queue-ms"]) >= 0
    assert first.headers["x-sidecar-attempts"] == "1"
    assert first.parse().choices[0].message.content == "hello"

    upstream.on["nvidia/named"] = lambda exchange, _: exchange.chat(x_request_id="of-the-upstream")
    assert say(client, model="nvidia/named")._request_id == "of-the-upstream"

    own = say(client, extra_headers={"X-Request-Id": "of-the-client"})
    assert own._request_id == "of-the-client"


# --- Errors ---


def test_a_refusal_of_the_upstream_is_waited_out(sidecar, upstream):
    upstream.on["nvidia/busy"] = lambda exchange, n: exchange.refuse() if n < 3 else exchange.chat()
    answer = sidecar.client().chat.completions.with_raw_response.create(
        model="nvidia/busy", messages=[{"role": "user", "content": "patience"}]
    )
    assert answer.parse().choices[0].message.content == "patience"
    assert answer.headers["x-sidecar-attempts"] == "3"


def test_a_refusal_that_waiting_does_not_avoid_is_a_rate_limit_error(start, upstream):
    client = start(MAX_ATTEMPTS=1).client()
    upstream.on["nvidia/never"] = lambda exchange, _: exchange.refuse()
    for stream in [False, True]:
        with pytest.raises(openai.RateLimitError) as e:
            say(client, model="nvidia/never", stream=stream)
        assert e.value.status_code == 429
        assert 1 <= int(e.value.response.headers["retry-after"]) <= 60


def test_no_ticket_in_time_is_a_rate_limit_error_that_tells_when_to_come_back(start):
    client = start(RATE_RPM=1, BUCKET_CAPACITY=1, QUEUE_TIMEOUT=1).client()
    say(client)
    with pytest.raises(openai.RateLimitError) as e:
        say(client)
    assert e.value.type == "RateLimitedError"
    assert 1 <= int(e.value.response.headers["retry-after"]) <= 60


def test_a_client_says_how_long_it_is_willing_to_wait(start):
    client = start(RATE_RPM=1, BUCKET_CAPACITY=1).client()
    say(client)
    with pytest.raises(openai.RateLimitError):
        say(client, extra_headers={"X-Sidecar-Max-Wait": "0.5"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_the_upstreams_errors_pass_through_as_they_are(sidecar, upstream, status, kind):
    body = {"error": {"message": "as the upstream says", "type": "its_own", "code": "its_code"}}
    upstream.on["nvidia/wrong"] = lambda exchange, _: exchange.answer(status, body)
    for stream in [False, True]:
        with pytest.raises(kind) as e:
            say(sidecar.client(), model="nvidia/wrong", stream=stream)
        assert (e.value.status_code, e.value.body) == (status, body["error"])
    assert len(upstream.received) == 2, "none of them is tried again"


def test_an_upstream_that_cannot_be_reached_is_a_502(start):
    with pytest.raises(openai.InternalServerError) as e:
        # Nothing listens on the discard port.
        say(start(UPSTREAM="http://127.0.0.1:9/v1", MAX_ATTEMPTS=1).client())
    assert (e.value.status_code, e.value.type) == (502, "UpstreamError")


def test_a_silent_upstream_is_a_504(start, upstream):
    upstream.on["nvidia/silent"] = lambda exchange, _: exchange.hang_until_gone()
    with pytest.raises(openai.InternalServerError) as e:
        say(start(TIMEOUT=1).client(), model="nvidia/silent")
    assert (e.value.status_code, e.value.type) == (504, "UpstreamTimeout")


def test_a_client_that_loses_patience_cancels_its_upstream_call(sidecar, upstream):
    upstream.on["nvidia/silent"] = lambda exchange, _: exchange.hang_until_gone()
    with pytest.raises(openai.APITimeoutError):
        say(sidecar.client(timeout=0.5), model="nvidia/silent")
    assert upstream.gone.wait(5), "the upstream still works for a client that is gone"


def test_a_stream_that_breaks_off_does_not_look_whole(sidecar, upstream):
    def half(exchange, _):
        exchange.begin_stream()
        exchange.say("half ")
        exchange.break_off()

    upstream.on["nvidia/half"] = half
    stream = say(sidecar.client(), model="nvidia/half", stream=True)
    assert next(stream).choices[0].delta.content == "half "
    with pytest.raises((httpx2.HTTPError, openai.APIError)):
        words(stream)


# --- Many at once ---


def test_twenty_clients_at_once_of_all_priorities_each_get_their_own_answer(sidecar):
    def converse(number):
        client = sidecar.client(default_headers={"X-Priority": PRIORITIES[number % 4], "X-Agent-Id": f"agent-{number}"})
        for turn in range(5):
            text = f"client {number} turn {turn}"
            assert say(client, text).choices[0].message.content == text
            assert words(say(client, text, stream=True)).strip() == text
        return number

    with ThreadPoolExecutor(20) as clients:
        assert sorted(clients.map(converse, range(20))) == list(range(20))
    assert sidecar.status()["queue"]["current_size"] == 0


def test_those_who_wait_go_by_priority_and_in_their_order_within_one(start, upstream):
    held, free = threading.Event(), threading.Event()

    def hold(exchange, _):
        held.set()
        assert free.wait(20)
        exchange.chat()

    upstream.on["nvidia/hold"] = hold
    # With one request in flight at a time, and that one held, all others wait.
    sidecar = start(MAX_IN_FLIGHT=1)
    client = sidecar.client()
    with ThreadPoolExecutor(20) as clients:
        waiting = [clients.submit(say, client, model="nvidia/hold")]
        assert held.wait(10)
        names = [f"nvidia/{priority}-{n}" for priority in PRIORITIES for n in range(3)]
        for count, name in enumerate(names, 1):
            priority = name.split("/")[1].split("-")[0]
            headers = {"X-Priority": priority, "X-Agent-Id": "one"}
            waiting.append(clients.submit(say, client, model=name, extra_headers=headers))
            sidecar.wait_until_queued(count)
        free.set()
        for answer in waiting:
            answer.result()
    expected = [f"nvidia/{priority}-{n}" for priority in reversed(PRIORITIES) for n in range(3)]
    assert upstream.models_received()[1:] == expected


def test_the_quota_holds_however_many_ask(start, upstream):
    client = start(RATE_RPM=10, BUCKET_CAPACITY=10, QUEUE_TIMEOUT=1, URGENT_RESERVE=0).client()

    def ask(_):
        try:
            return say(client) and "answered"
        except openai.RateLimitError:
            return "refused"

    with ThreadPoolExecutor(20) as clients:
        results = list(clients.map(ask, range(20)))
    assert (results.count("answered"), len(upstream.received)) == (10, 10)


def test_the_async_client_plain_streamed_and_twenty_at_once(sidecar):
    async def main():
        async with sidecar.client(AsyncOpenAI) as client:
            assert (await say(client, "one")).choices[0].message.content == "one"
            stream = await say(client, "two three", stream=True)
            assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "two three "
            answers = await asyncio.gather(*(say(client, f"number {n}") for n in range(20)))
            assert [answer.choices[0].message.content for answer in answers] == [f"number {n}" for n in range(20)]

    asyncio.run(main())

"""Batch prediction from input files to requests and answers, over a real Depot."""

import asyncio
import base64
import gzip
import io

import aiohttp
import pytest
from emu_batch_parts import (
    DIRECTORY,
    IN,
    Container,
    depot,
    batch,
    echo,
    errors,
    finished,
    framed,
    job_of,
    jsonl,
    lines,
    over_http,
)

from cpr_kit.emulator.errors import Code, unavailable
from cpr_kit.emulator.settings import Settings


class TestFormats:
    def test_jsonl(self, depot):
        rows = [[1, 2.5], {"a": 1}, "text", 7, None, True]
        depot.write(IN, jsonl(rows))
        container = Container(echo)
        outcome = over_http(job_of(), depot, container)
        assert container.asked == [{"instances": rows}]
        assert [type(n) for n in container.instances[0]] == [int, float]
        assert lines(depot) == [{"instance": row, "prediction": row} for row in rows]
        assert (outcome.state, outcome.successful, outcome.failed, outcome.incomplete) == (
            "JOB_STATE_SUCCEEDED",
            6,
            0,
            0,
        )
        assert outcome.output_directory == DIRECTORY
        assert depot.list(DIRECTORY) == [
            f"{DIRECTORY}/prediction.errors_stats-00000-of-00001",
            f"{DIRECTORY}/prediction.results-00000-of-00001",
        ]
        assert depot.read(f"{DIRECTORY}/prediction.errors_stats-00000-of-00001") == b""

    def test_csv(self, depot):
        depot.write(IN, b'\xef\xbb\xbfa,"b",c\r\n1,"x, ""y""",2.5\r\n\r\n-3e2,"",0\n')
        container = Container()
        over_http(job_of("csv"), depot, container)
        assert container.instances == [[1.0, 'x, "y"', 2.5], [-300.0, "", 0.0]]
        assert isinstance(container.instances[0][0], float)
        assert lines(depot)[0] == {"instance": [1.0, 'x, "y"', 2.5], "prediction": 0}

    def test_file_list_shows_the_uri(self, depot):
        depot.write("gs://pictures/1 one.jpg", b"\xff\xd8one")
        depot.write("gs://pictures/2.jpg", b"two")
        depot.write(IN, b"gs://pictures/1 one.jpg\n gs://pictures/2.jpg \n")
        container = Container()
        over_http(job_of("file-list"), depot, container)
        assert container.instances == [{"b64": base64.b64encode(b"\xff\xd8one").decode()}, {"b64": "dHdv"}]
        assert lines(depot) == [
            {"instance": "gs://pictures/1 one.jpg", "prediction": 0},
            {"instance": "gs://pictures/2.jpg", "prediction": 1},
        ]

    @pytest.mark.parametrize(("name", "pack"), [("tf-record", bytes), ("tf-record-gzip", gzip.compress)])
    def test_tf_record(self, depot, name, pack):
        depot.write(IN, pack(framed([b"one", b"", b"\x00" * 3_000_000])))
        container = Container()
        over_http(job_of(name), depot, container)
        assert container.instances[:2] == [{"b64": "b25l"}, {"b64": ""}]
        assert lines(depot)[0] == {"instance": {"b64": "b25l"}, "prediction": 0}
        assert len(lines(depot)) == 3


class TestRequests:
    def test_64_rows_at_a_time_across_the_files(self, depot):
        depot.write("gs://box/in/a.jsonl", jsonl(range(100)))
        depot.write("gs://box/in/b.jsonl", jsonl(range(100, 150)))
        container = Container(echo)
        outcome = finished(job_of(uris=["gs://box/in/*.jsonl"]), depot, container)
        assert [len(request["instances"]) for request in container.asked] == [64, 64, 22]
        assert outcome.successful == 150
        assert [line["prediction"] for line in lines(depot)] == list(range(150))

    def test_batch_size(self, depot):
        depot.write(IN, jsonl(range(5)))
        container = Container()
        finished(job_of(manualBatchTuningParameters={"batchSize": 2}), depot, container)
        assert [request["instances"] for request in container.asked] == [[0, 1], [2, 3], [4]]

    @pytest.mark.parametrize(
        ("given", "got"),
        [
            ({}, {}),
            ({"modelParameters": None}, {}),
            (
                {"modelParameters": {"k": 3, "names": ["a", True, None]}},
                {"parameters": {"k": 3.0, "names": ["a", True, None]}},
            ),
            ({"modelParameters": {}}, {"parameters": {}}),
        ],
    )
    def test_parameters_are_there_only_when_given(self, depot, given, got):
        depot.write(IN, b"1\n")
        container = Container()
        finished(job_of(**given), depot, container)
        assert container.asked == [{"instances": [1]} | got]

    def test_numbers_keep_their_digits(self, depot):
        depot.write(IN, b'[12345678901234567890, 0.1, -0.0, 1.0, "\\ud83d\\ude00", "\xc3\xa4"]\n')
        container = Container()
        finished(job_of(), depot, container)
        assert repr(container.instances[0]) == "[12345678901234567890, 0.1, -0.0, 1.0, '😀', 'ä']"


class TestAttempts:
    def test_a_later_attempt_counts(self, depot):
        depot.write(IN, b"1\n")
        answers = iter([(503, b"starting"), (500, b""), (200, b'{"predictions": ["x"]}')])
        container = Container(lambda _: next(answers))
        outcome = over_http(job_of(), depot, container)
        assert (outcome.successful, len(container.asked)) == (1, 3)

    def test_three_attempts_and_the_words_of_the_service(self, depot):
        depot.write(IN, b"1\n" * 2 + b"2\n")

        def answer(request):
            return (500, b"<title>it's\nbroken</title>") if 1 in request["instances"] else {"predictions": ["x"]}

        container = Container(answer)
        job = job_of(manualBatchTuningParameters={"batchSize": 2})
        outcome = over_http(job, depot, container)
        assert len(container.asked) == 4
        [(message, count)] = errors(depot)
        start = (
            "Post request fails. Cannot get predictions. Error: Exceeded retries: Non-OK result 500 "
            "(<title>it's\nbroken</title>) from server, retry=3, elapsed="
        )
        assert message.startswith(start)
        assert message.endswith("s.")
        assert count == 2
        assert lines(depot) == [{"instance": 2, "prediction": "x"}]
        assert (outcome.state, outcome.successful, outcome.failed) == ("JOB_STATE_SUCCEEDED", 1, 2)

    @pytest.mark.parametrize("status", [201, 400, 422, 429])
    def test_whatever_is_no_200_is_tried_again(self, depot, status):
        depot.write(IN, b"1\n")
        container = Container(lambda _: (status, b'{"predictions": [1]}'))
        finished(job_of(), depot, container)
        assert len(container.asked) == 3
        assert f"Non-OK result {status} " in errors(depot)[0][0]

    def test_an_attempt_takes_no_longer_than_the_setting(self, depot):
        depot.write(IN, b"1\n")

        async def for_ever():
            await asyncio.Event().wait()

        container = Container(lambda _: for_ever())
        outcome = finished(job_of(), depot, container, settings=Settings(batch_retry_elapsed_s=0.01))
        assert len(container.asked) == 3
        assert "Non-OK result 504 (upstream request timeout) from server, retry=3" in errors(depot)[0][0]
        assert outcome.state == "JOB_STATE_FAILED"

    @pytest.mark.parametrize(
        "error", [unavailable("no replica is ready"), ConnectionRefusedError("no replica is ready")]
    )
    def test_a_container_that_cannot_be_reached(self, depot, error):
        depot.write(IN, b"1\n")

        def answer(_):
            raise error

        finished(job_of(), depot, Container(answer), attempts=2)
        assert "Non-OK result 503 (no replica is ready) from server, retry=2" in errors(depot)[0][0]

    def test_a_container_that_hangs_up(self, depot):
        depot.write(IN, b"1\n")

        async def answer(reader, writer):
            await reader.readline()
            writer.close()

        async def main():
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict"
            async with server, aiohttp.ClientSession() as session:

                class Posts:
                    async def ask(self, body):
                        async with session.post(url, data=io.BytesIO(body)) as response:
                            return response.status, await response.read()

                return await batch(job_of(), depot, Posts())

        outcome = asyncio.run(main())
        assert outcome.failed == 1
        assert "Non-OK result 503 (Server disconnected) from server, retry=3" in errors(depot)[0][0]

    def test_a_setting_says_what_share_of_failures_fails_the_job(self, depot):
        depot.write(IN, b"1\nx\n")
        assert finished(job_of(), depot, Container()).state == "JOB_STATE_SUCCEEDED"
        outcome = finished(job_of(), depot, Container(), settings=Settings(batch_fail_share=0.4))
        assert (outcome.state, outcome.error.code) == ("JOB_STATE_FAILED", Code.INTERNAL)
        assert str(outcome.error).startswith("Predictions failed for 1 of 2 instances.")
        assert str(outcome.error).endswith("The most frequent: The row is not JSON.")

    def test_all_rows_failing_fails_the_job(self, depot):
        depot.write(IN, b"x\n")
        assert finished(job_of(), depot, Container()).state == "JOB_STATE_FAILED"
        assert errors(depot) == [("The row is not JSON.", 1)]


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (b"<html>", "The response is not JSON"),
            (b'{"predictions": [NaN, 1]}', "NaN is not JSON"),
            (b"\xff", "The response is not JSON"),
            (b'{"error": "lack"}', 'Predictions are not in the response. Got: {"error": "lack"}'),
            (b"[1, 2]", "Predictions are not in the response. Got: [1, 2]"),
            (b'{"predictions": 5}', "predictions are no list"),
            (b'{"predictions": null}', "predictions are no list"),
            (b'{"predictions": [1]}', "The number of predictions (1) is not that of instances (2)."),
            (b'{"predictions": [1, 2, 3]}', "The number of predictions (3) is not that of instances (2)."),
            (b'{"predictions": {"a": 1}}', "The number of predictions (1) is not that of instances (2)."),
        ],
    )
    def test_what_is_no_answer_loses_the_batch_at_once(self, depot, answer, says):
        depot.write(IN, b"1\n2\n")
        container = Container(lambda _: (200, answer))
        finished(job_of(), depot, container)
        [(message, count)] = errors(depot)
        assert (says in message, count, len(container.asked)) == (True, 2, 1), message
        assert message.startswith("Post request fails. Cannot get predictions. Error: ")
        assert lines(depot) == []

    def test_an_object_gives_its_keys(self, depot):
        depot.write(IN, b"1\n")
        completion = {"id": "chat-1", "object": "chat.completion", "choices": []}
        outcome = finished(job_of(), depot, Container(lambda _: {"predictions": completion}))
        assert lines(depot) == [{"instance": 1, "prediction": "id"}]
        assert "are an object and not a list" in outcome.warnings[0]

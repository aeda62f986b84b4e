"""The files that a batch job leaves, also when it is cancelled or fails."""

import asyncio
import csv
import io
import json
import threading

import pytest
from emu_batch_parts import DIRECTORY, IN, Container, batch, depot, echo, finished, job_of, jsonl, lines, results


class TestOutput:
    def test_workers_write_a_shard_each(self, depot):
        """Both have a batch at once: each waits for the other."""
        depot.write(IN, jsonl(range(8)))
        met = []

        async def answer(request):
            met.append(request["instances"])
            while len(met) < 2:
                await asyncio.sleep(0)
            return 200, json.dumps({"predictions": request["instances"]}).encode()

        job = job_of(manualBatchTuningParameters={"batchSize": 1})
        outcome = finished(job, depot, Container(answer), workers=2)
        assert outcome.successful == 8
        shards = results(depot)
        assert len(shards) == 2
        assert all(shards)
        assert sorted(line["prediction"] for shard in shards for line in shard) == list(range(8))
        assert depot.list(f"{DIRECTORY}/") == [
            f"{DIRECTORY}/prediction.errors_stats-00000-of-00002",
            f"{DIRECTORY}/prediction.errors_stats-00001-of-00002",
            f"{DIRECTORY}/prediction.results-00000-of-00002",
            f"{DIRECTORY}/prediction.results-00001-of-00002",
        ]

    def test_workers_without_work_write_nothing(self, depot):
        depot.write(IN, b"1\n")
        finished(job_of(), depot, Container(), workers=5)
        assert len(results(depot)) == 1

    def test_a_csv_file_is_not_split(self, depot):
        for name in ("a", "b"):
            depot.write(f"gs://box/in/{name}", b"n\n" + b"".join(b"%d\n" % n for n in range(10)))
        together, most = [], []

        async def answer(request):
            together.append(1)
            await asyncio.sleep(0)
            most.append(len(together))
            together.pop()
            return 200, json.dumps({"predictions": request["instances"]}).encode()

        job = job_of("csv", ["gs://box/in/*"], manualBatchTuningParameters={"batchSize": 1})
        finished(job, depot, Container(answer), workers=4)
        assert sum(len(shard) for shard in results(depot)) == 20
        assert max(most) <= 2
        for shard in results(depot):
            numbers = [line["prediction"][0] for line in shard]
            assert numbers in ([*range(10)], [*range(10), *range(10)])

    def test_a_second_run_replaces_the_first(self, depot):
        depot.write(IN, jsonl(range(4)))
        depot.write(f"{DIRECTORY}/prediction.results-00001-of-00002", b"of a run that was killed\n")
        depot.write(f"{DIRECTORY}/notes.txt", b"mine")
        finished(job_of(), depot, Container(echo))
        first = {uri: depot.read(uri) for uri in depot.list(DIRECTORY)}
        finished(job_of(), depot, Container(echo))
        assert {uri: depot.read(uri) for uri in depot.list(DIRECTORY)} == first
        assert sorted(uri.rpartition("/")[2] for uri in first) == [
            "notes.txt", "prediction.errors_stats-00000-of-00001", "prediction.results-00000-of-00001",
        ]  # fmt: skip

    def test_csv_of_csv_has_the_columns(self, depot):
        depot.write("gs://box/in/1", b'a,b\n1,"x,y"\n')
        depot.write("gs://box/in/2", b"c\n5\n")
        container = Container(lambda request: {"predictions": [{"p": 0.5} for _ in request["instances"]]})
        finished(job_of("csv", ["gs://box/in/*"], predictions_format="csv"), depot, container)
        tables = [
            list(csv.reader(io.StringIO(depot.read(uri).decode())))
            for uri in depot.list(f"{DIRECTORY}/prediction.results-")
        ]
        assert tables == [
            [["a", "b", "prediction"], ["1.0", "x,y", '{"p": 0.5}']],
            [["c", "prediction"], ["5.0", '{"p": 0.5}']],
        ]
        assert depot.exists(f"{DIRECTORY}/prediction.results-00001-of-00002.csv")

    @pytest.mark.parametrize(
        ("config", "text"),
        [
            ({}, 'instance,prediction\n"{""a"": 1, ""b"": null}",x\n'),
            ({"keyField": "a"}, "key,prediction\n1,x\n"),
            ({"keyField": "a", "excludedFields": ["b"]}, "key,prediction\n1,x\n"),
            ({"excludedFields": ["b"]}, 'instance,b,prediction\n"{""a"": 1}",,x\n'),
        ],
    )
    def test_csv_of_jsonl(self, depot, config, text):
        depot.write(IN, jsonl([{"a": 1, "b": None}]))
        job = job_of(instanceConfig=config, predictions_format="csv")
        finished(job, depot, Container(lambda _: {"predictions": ["x"]}))
        assert depot.read(f"{DIRECTORY}/prediction.results-00000-of-00001.csv").decode() == text

    def test_the_form_of_time_that_the_documentation_names(self, depot):
        depot.write(IN, b"1\n")
        outcome = finished(job_of(), depot, Container(), iso_directory=True)
        assert outcome.output_directory == "gs://box/out/prediction-iris-2021-03-23T12:05:07.282Z"
        assert depot.exists(f"{outcome.output_directory}/prediction.results-00000-of-00001")

    def test_progress(self, depot):
        depot.write(IN, b"1\n2\nx\n3\n")
        seen = []
        job = job_of(manualBatchTuningParameters={"batchSize": 1})
        finished(job, depot, Container(), progress=lambda *counts: seen.append(counts))
        assert seen == [(1, 0), (2, 0), (3, 1)]


class TestEnds:
    @pytest.mark.parametrize("workers", [1, 3])
    def test_cancelling_leaves_what_was_written(self, depot, workers):
        depot.write(IN, jsonl(range(1000)))

        async def main():
            asked, released = asyncio.Event(), []

            async def answer(request):
                if request["instances"][0] >= 2:
                    asked.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        released.append(1)
                return 200, json.dumps({"predictions": request["instances"]}).encode()

            job = job_of(manualBatchTuningParameters={"batchSize": 1})
            task = asyncio.create_task(batch(job, depot, Container(answer), workers=workers))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert released
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())
        done = [line["prediction"] for line in lines(depot)]
        assert set(done) <= {0, 1}
        assert workers > 1 or done == [0, 1]

    def test_cancelling_while_a_file_is_being_read(self, depot):
        """The thread in the file cannot be stopped: what it reads is closed after it, and not under it."""
        depot.write(IN, jsonl(range(10)))
        reading, go_on = threading.Event(), threading.Event()

        class Slow:
            def __getattr__(self, name):
                return getattr(depot, name)

            def open(self, uri):
                file = depot.open(uri)
                reading.set()
                go_on.wait(10)  # so that a fault of ours fails the test and does not hang it
                return file

        async def main():
            task = asyncio.create_task(batch(job_of(), Slow(), Container(), workers=3))
            await asyncio.to_thread(reading.wait)
            task.cancel()
            try:
                for _ in range(1000):
                    await asyncio.sleep(0)
                assert not task.done()
            finally:
                go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert results(depot) == [[]]

    @pytest.mark.parametrize("times", [1, 2])
    def test_cancelling_while_the_output_is_written(self, depot, times):
        """The loop goes on, what is being written is written whole, and only then the job has ended."""
        depot.write(IN, jsonl(range(10)))
        writing, go_on = threading.Event(), threading.Event()

        class Slow:
            def __getattr__(self, name):
                return getattr(depot, name)

            def upload_folder(self, *arguments):
                writing.set()
                go_on.wait(10)  # so that a fault of ours fails the test and does not hang it
                return depot.upload_folder(*arguments)

        async def main():
            task = asyncio.create_task(batch(job_of(), Slow(), Container(echo)))
            await asyncio.to_thread(writing.wait)
            try:
                for _ in range(times):
                    task.cancel()
                    for _ in range(1000):
                        await asyncio.sleep(0)
                    assert not task.done()
                assert not go_on.is_set()
            finally:
                go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert [line["prediction"] for line in lines(depot)] == list(range(10))

    def test_a_fault_of_ours_stops_all_workers(self, depot):
        depot.write(IN, jsonl(range(100)))

        def answer(request):
            if request["instances"] == [5]:
                raise RuntimeError("a fault")
            return echo(request)

        container = Container(answer)
        job = job_of(manualBatchTuningParameters={"batchSize": 1})
        with pytest.raises(RuntimeError, match="a fault"):
            finished(job, depot, container, workers=2)
        assert len(container.asked) < 20
        assert len(lines(depot)) >= 4

    def test_a_folder_of_its_own_is_gone_afterwards(self, depot, tmp_path, monkeypatch):
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        depot.write(IN, b"1\n")
        finished(job_of(), depot, Container())
        assert list((tmp_path / "tmp").iterdir()) == []

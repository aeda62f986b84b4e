"""What becomes of each row: instanceConfig, and rows and files that cannot be read."""

import asyncio
import base64
import gzip

import pytest
from emu_batch_parts import (
    DIRECTORY,
    IN,
    Container,
    depot,
    echo,
    errors,
    example,
    finished,
    framed,
    job_of,
    jsonl,
    lines,
    results,
)

from cpr_kit.emulator.errors import Code


class TestInstanceConfig:
    """Every field, with every format that it applies to (InstanceConfig of the API)."""

    @pytest.mark.parametrize(
        ("config", "instance", "beside"),
        [
            ({}, {"a": 1, "b": "x", "id": 9}, None),
            ({"instanceType": "object"}, {"a": 1, "b": "x", "id": 9}, None),
            ({"includedFields": ["b", "a"]}, {"a": 1, "b": "x"}, {}),
            ({"includedFields": ["b", "a"], "instanceType": "object"}, {"a": 1, "b": "x"}, {}),
            ({"includedFields": ["b", "a"], "instanceType": "array"}, ["x", 1], {}),
            ({"excludedFields": ["a", "id"]}, {"b": "x"}, {"a": 1, "id": 9}),
            ({"keyField": "id"}, {"a": 1, "b": "x"}, "key"),
            ({"keyField": "id", "excludedFields": ["a"]}, {"b": "x"}, "key"),
            ({"keyField": "id", "includedFields": ["b", "a"]}, {"a": 1, "b": "x"}, "key"),
            ({"keyField": "id", "includedFields": ["b", "id"], "instanceType": "array"}, ["x"], "key"),
        ],
    )
    def test_jsonl(self, depot, config, instance, beside):
        depot.write(IN, jsonl([{"a": 1, "b": "x", "id": 9}]))
        container = Container()
        finished(job_of(instanceConfig=config), depot, container)
        assert container.instances == [instance]
        expected = {"key": 9} if beside == "key" else {"instance": instance} | (beside or {})
        assert lines(depot) == [expected | {"prediction": 0}]

    @pytest.mark.parametrize(
        ("config", "instance", "beside"),
        [
            ({"instanceType": "array"}, [1.0, "x", 9.0], {}),
            ({"includedFields": ["b", "a"]}, ["x", 1.0], {}),
            ({"excludedFields": ["a", "id"]}, ["x"], {"a": 1.0, "id": 9.0}),
            ({"keyField": "id"}, [1.0, "x"], "key"),
            ({"keyField": "id", "excludedFields": ["a"]}, ["x"], "key"),
            ({"keyField": "id", "includedFields": ["b", "a"]}, ["x", 1.0], "key"),
        ],
    )
    def test_csv(self, depot, config, instance, beside):
        depot.write(IN, b'a,b,id\n1,"x",9\n')
        container = Container()
        finished(job_of("csv", instanceConfig=config), depot, container)
        assert container.instances == [instance]
        expected = {"key": 9.0} if beside == "key" else {"instance": instance} | beside
        assert lines(depot) == [expected | {"prediction": 0}]

    @pytest.mark.parametrize(
        ("config", "kept", "beside"),
        [
            ({"includedFields": ["a"]}, {"a": [1]}, {}),
            ({"excludedFields": ["a"]}, {"id": [b"k"], "x": [0.5, 1.5]}, {"a": 1}),
            ({"keyField": "id"}, {"a": [1], "x": [0.5, 1.5]}, "key"),
        ],
    )
    def test_tf_record(self, depot, config, kept, beside):
        depot.write(IN, framed([example({"a": [1], "id": [b"k"], "x": [0.5, 1.5]})]))
        container = Container()
        finished(job_of("tf-record", instanceConfig=config), depot, container)
        sent = {"b64": base64.b64encode(example(kept)).decode()}
        assert container.instances == [sent]
        assert lines(depot) == [({"key": "k"} if beside == "key" else {"instance": sent} | beside) | {"prediction": 0}]

    @pytest.mark.parametrize(
        ("config", "row", "says"),
        [
            ({"instanceType": "object"}, [1], "not a JSON object"),
            ({"includedFields": ["a"]}, [1], "not a JSON object"),
            ({"instanceType": "array"}, {"a": 1}, "needs includedFields"),
            ({"instanceType": "array", "includedFields": ["a", "b"]}, {"a": 1}, "lacks a field of includedFields: b"),
            ({"keyField": "id"}, {"a": 1}, "no key field 'id'"),
        ],
    )
    def test_rows_that_do_not_fit_fail_alone(self, depot, config, row, says):
        fits = [2] if config.get("instanceType") == "array" and len(config) == 1 else {"a": 1, "b": 2, "id": 3}
        depot.write(IN, jsonl([row, fits]))
        outcome = finished(job_of(instanceConfig=config), depot, Container())
        assert (outcome.successful, outcome.failed, says in errors(depot)[0][0]) == (1, 1, True)

    def test_excluded_fields_never_hide_the_prediction(self, depot):
        depot.write(IN, jsonl([{"prediction": "old", "instance": "old", "a": 1}]))
        finished(job_of(instanceConfig={"excludedFields": ["prediction", "instance"]}), depot, Container())
        assert depot.read(depot.list(DIRECTORY)[1]) == b'{"instance": {"a": 1}, "prediction": 0}\n'

    def test_arrays_stay_under_instance_type_array(self, depot):
        depot.write(IN, b"[1, 2]\n")
        container = Container()
        finished(job_of(instanceConfig={"instanceType": "array"}), depot, container)
        assert container.instances == [[1, 2]]

    def test_a_csv_without_a_named_column_cannot_be_read(self, depot):
        depot.write(IN, b"a,b\n1,2\n")
        outcome = finished(job_of("csv", instanceConfig={"keyField": "id"}), depot, Container())
        assert outcome.state == "JOB_STATE_FAILED"
        assert "The header lacks columns that instanceConfig names: id." in str(outcome.error)


class TestBadRows:
    def test_jsonl(self, depot):
        depot.write(IN, b'1\n\n  \r\n{"a": \n\xff\n[NaN]\n' + b"[" * 100_000 + b"\n[1e999]\n\xef\xbb\xbf2\n3")
        container = Container(echo)
        outcome = finished(job_of(), depot, container)
        assert container.instances == [1, 3]
        assert dict(errors(depot)) == {
            "The row is not JSON.": 4,
            "The row is not UTF-8.": 1,
            "The row cannot be written as JSON.": 1,
        }
        assert (outcome.state, outcome.successful, outcome.failed) == ("JOB_STATE_SUCCEEDED", 2, 6)
        assert any(warning.startswith(f"{IN}:4: The row is not JSON.") for warning in outcome.warnings)
        assert outcome.partial_failures == []

    @pytest.mark.parametrize(
        ("row", "says"),
        [
            (b"1,two", "strings must be in double quotes"),
            (b"1", "The row has 1 cells, and the header 2."),
            (b"1,2,3", "The row has 3 cells, and the header 2."),
            (b'1,"a\nb"', "not csv"),
            (b"1,nan", "cannot be written as JSON"),
            (b'1,"\xff"', "not UTF-8"),
        ],
    )
    def test_csv(self, depot, row, says):
        depot.write(IN, b"a,b\n1,2\n" + row + b"\n3,4\n")
        container = Container()
        finished(job_of("csv"), depot, container)
        assert container.instances == [[1.0, 2.0], [3.0, 4.0]]
        assert says in errors(depot)[0][0]

    def test_so_many_that_they_are_counted_before_a_batch_is_full(self, depot):
        depot.write(IN, b"x\n" * 2500 + b"1\n")
        seen = []
        finished(job_of(), depot, Container(), progress=lambda *counts: seen.append(counts))
        assert seen == [(0, 1000), (0, 2000), (1, 2500)]
        assert errors(depot) == [("The row is not JSON.", 2500)]

    def test_file_list(self, depot):
        depot.write("gs://pictures/1.jpg", b"one")
        depot.write(IN, b"gs://pictures/1.jpg\ngs://pictures/none.jpg\npictures/1.jpg\ngs://none/1.jpg\n")
        outcome = finished(job_of("file-list"), depot, Container())
        assert dict(errors(depot)) == {
            "A file of the file list could not be read.": 2,
            "A line of the file list is no gs:// URI.": 1,
        }
        assert [f"gs://pictures/none.jpg: No such object" in text for text in outcome.partial_failures] == [True, False]
        assert outcome.successful == 1

    @pytest.mark.parametrize(
        ("name", "data", "says", "before"),
        [
            ("tf-record", framed([b"one", b"two"])[:-1], "ends within record 2", 1),
            ("tf-record", framed([b"one"]) + b"\x01", "ends within record 2", 1),
            ("tf-record", framed([b"one"]).replace(b"one", b"ONE"), "the checksum of record 1 does not match", 0),
            ("tf-record", b"\x01" + framed([b"one"])[1:], "the checksum of the length of record 1", 0),
            ("tf-record-gzip", framed([b"one"]), "not a whole gzip file", 0),
            ("tf-record-gzip", gzip.compress(framed([b"one", b"two"]))[:-9], "not a whole gzip file", None),
        ],
        ids=["cut", "cut in a head", "data", "length", "not packed", "cut pack"],
    )
    def test_a_broken_tf_record_file_is_read_up_to_there(self, depot, name, data, says, before):
        depot.write(IN, data)
        depot.write("gs://box/in/whole", gzip.compress(framed([b"good"])) if "gzip" in name else framed([b"good"]))
        container = Container()
        outcome = finished(job_of(name, [IN, "gs://box/in/whole"]), depot, container)
        assert outcome.state == "JOB_STATE_SUCCEEDED"
        assert [says in text and IN in text for text in outcome.partial_failures] == [True]
        assert outcome.incomplete == -1
        assert container.instances[-1] == {"b64": base64.b64encode(b"good").decode()}
        assert before is None or len(container.instances) == before + 1

    def test_records_that_are_no_examples(self, depot):
        depot.write(IN, framed([b"\xff\xff", example({"a": [1]})]))
        finished(job_of("tf-record", instanceConfig={"keyField": "a"}), depot, Container())
        assert "no tf.train.Example" in errors(depot)[0][0]
        assert lines(depot) == [{"key": 1, "prediction": 0}]


class TestInput:
    def test_empty_files(self, depot):
        depot.write(IN, b"\n\n")
        container = Container()
        outcome = finished(job_of(), depot, container)
        assert (outcome.state, outcome.successful, container.asked) == ("JOB_STATE_SUCCEEDED", 0, [])
        assert (results(depot), errors(depot)) == ([[]], [])

    @pytest.mark.parametrize("uri", ["gs://box/in/none", "gs://none/in/*", "gs://box/in/*.csv"])
    def test_no_files(self, depot, uri):
        depot.write(IN, b"1\n")
        outcome = finished(job_of(uris=[uri]), depot, Container())
        assert (outcome.state, outcome.error.code) == ("JOB_STATE_FAILED", Code.INVALID_ARGUMENT)
        assert uri in str(outcome.error)

    def test_a_csv_file_needs_a_header(self, depot):
        depot.write(IN, b"")
        assert "no header line" in str(finished(job_of("csv"), depot, Container()).error)

    def test_one_missing_file_is_a_partial_failure(self, depot):
        depot.write(IN, b"1\n")
        outcome = finished(job_of(uris=["gs://box/none", IN]), depot, Container())
        assert (outcome.state, outcome.successful, len(outcome.partial_failures)) == ("JOB_STATE_SUCCEEDED", 1, 1)

    def test_never_more_than_20_partial_failures(self, depot):
        outcome = finished(job_of(uris=[f"gs://box/none{n}" for n in range(50)]), depot, Container())
        assert len(outcome.partial_failures) == 20

    @pytest.mark.parametrize(
        ("uri", "found"),
        [
            ("gs://box/in/*", ["a1", "a2", "b[1]"]),
            ("gs://box/in/**", ["a1", "a2", "b[1]", "sub/a1"]),
            ("gs://box/**1", ["a1", "sub/a1"]),
            ("gs://box/in/?1", ["a1"]),
            ("gs://box/in/a[2-3]", ["a2"]),
            ("gs://box/in/a[^1]", ["a2"]),
            ("gs://box/in/a[!1]", ["a2"]),
            ("gs://box/*/a1", ["a1"]),
            ("gs://box/in/b[1]", ["b[1]"]),
        ],
    )
    def test_wildcards(self, depot, uri, found):
        for name in ("a1", "a2", "b[1]", "sub/a1"):
            depot.write(f"gs://box/in/{name}", jsonl([name]))
        depot.write("gs://box/in/", jsonl(["the mark of a folder"]))
        container = Container()
        finished(job_of(uris=[uri]), depot, container)
        assert container.instances == found

    def test_a_name_with_brackets_is_itself_first(self, depot):
        for name in ("b1", "b[1]"):
            depot.write(f"gs://box/in/{name}", jsonl([name]))
        container = Container()
        finished(job_of(uris=["gs://box/in/b[1]"]), depot, container)
        assert container.instances == ["b[1]"]

    def test_a_file_named_twice_is_read_once(self, depot):
        depot.write(IN, b"1\n")
        container = Container()
        finished(job_of(uris=[IN, "gs://box/in/*"]), depot, container)
        assert container.instances == [1]

    def test_input_streams(self, depot):
        """The second batch's bytes have not been read when the first is asked for."""
        depot.write(IN, b"1\n" * 2_000_000)
        place, opened = [], []

        class Watched:
            def __getattr__(self, name):
                return getattr(depot, name)

            def open(self, uri):
                opened.append(depot.open(uri))
                return opened[-1]

        def answer(request):
            place.append(opened[0].tell())
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            finished(job_of(), Watched(), Container(answer))
        assert place[0] < 1_000
        assert opened[0].closed

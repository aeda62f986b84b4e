import json


def test_warm_up_requests_are_answered_before_the_model_is_ready(serve, tmp_path):
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"instances": [1]}))
    server = serve("batches:CountsItsCalls", CPR_SERVE_WARMUP=f"{path},{path}").ready()

    assert server.predict({"instances": [1]}).json() == {"predictions": [3]}


def test_a_handler_of_ones_own_is_warmed_up_too(serve, tmp_path):
    path = tmp_path / "request.bin"
    path.write_bytes(b"abc")
    assert (
        serve(handler="answers:ReadsTheBody", CPR_SERVE_WARMUP=str(path)).ready().predict(data=b"x").status_code == 200
    )


def test_a_model_that_cannot_answer_its_warm_up_request_does_not_start(serve, tmp_path):
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"instances": ["broken"]}))
    server = serve("batches:CountsItsCalls", CPR_SERVE_WARMUP=str(path))

    code, last = server.end()
    assert (code, f'answered 500 to its warm-up request "{path}"' in last) == (1, True)
    assert "ValueError: broken" in server.stderr()


def test_a_warm_up_request_that_is_not_there_says_so(serve):
    code, last = serve("batches:CountsItsCalls", CPR_SERVE_WARMUP="nothing.json").end()
    assert (code, 'warm-up request "nothing.json" cannot be read' in last) == (1, True)

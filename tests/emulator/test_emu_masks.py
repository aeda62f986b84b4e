from __future__ import annotations

import pytest
from google.cloud.aiplatform_v1 import types
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.emulator import masks
from cpr_kit.emulator.errors import ApiError, Code

Endpoint = types.Endpoint.pb()
Model = types.Model.pb()
DeployedModel = types.DeployedModel.pb()
ALLOWED = {"display_name", "description", "labels", "traffic_split", "predict_request_response_logging_config"}
MUTABLE = {
    "dedicated_resources.min_replica_count",
    "dedicated_resources.max_replica_count",
    "dedicated_resources.autoscaling_metric_specs",
    "disable_container_logging",
}


def an_endpoint():
    return Endpoint(
        name="projects/1/locations/us-central1/endpoints/1",
        display_name="old",
        description="kept",
        labels={"a": "1", "b": "2"},
        traffic_split={"7": 100},
        predict_request_response_logging_config={"enabled": True, "sampling_rate": 0.5},
        network="projects/1/global/networks/n",
    )


def apply(target, change, *paths, allowed=ALLOWED):
    return masks.apply(target, change, FieldMask(paths=paths), allowed=allowed)


def refusal(target, change, *paths, allowed=ALLOWED):
    before = target.SerializeToString(deterministic=True)
    with pytest.raises(ApiError) as caught:
        apply(target, change, *paths, allowed=allowed)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert target.SerializeToString(deterministic=True) == before
    return caught.value.message


def test_masked_fields_are_copied_and_no_other():
    target = an_endpoint()
    change = Endpoint(name="other", display_name="new", description="not masked", labels={"c": "3"}, network="x")
    assert apply(target, change, "displayName", "labels") == ["display_name", "labels"]
    expected = an_endpoint()
    expected.display_name = "new"
    expected.ClearField("labels")
    expected.labels["c"] = "3"  # replaced, not merged
    assert target == expected


def test_a_masked_field_that_the_change_lacks_is_cleared():
    target = an_endpoint()
    paths = ("description", "trafficSplit", "predictRequestResponseLoggingConfig")
    assert apply(target, Endpoint(), *paths) == [
        "description", "traffic_split", "predict_request_response_logging_config",
    ]  # fmt: skip
    assert not target.description and not target.traffic_split
    assert not target.HasField("predict_request_response_logging_config")


def test_a_path_goes_into_messages():
    target = an_endpoint()
    change = Endpoint(predict_request_response_logging_config={"enabled": False, "sampling_rate": 1})
    assert apply(target, change, "predictRequestResponseLoggingConfig.enabled") == [
        "predict_request_response_logging_config.enabled"
    ]
    config = target.predict_request_response_logging_config
    assert (config.enabled, config.sampling_rate) == (False, 0.5)

    model = Model()
    change = Model(explanation_spec={"metadata": {"inputs": {"x": {"input_tensor_name": "t"}}}})
    path = "explanation_spec.metadata"
    assert apply(model, change, path, allowed={"explanation_spec"}) == [path]
    assert model == change
    path = "explanation_spec.metadata.inputs.x"
    assert apply(model, Model(), path, allowed={"explanation_spec"}) == [path]
    assert not model.explanation_spec.metadata.inputs
    assert apply(model, change, path, allowed={"explanation_spec"}) == [path]
    assert model == change


def test_clearing_inside_what_is_not_there_makes_nothing():
    target = Endpoint(display_name="e")
    assert apply(target, Endpoint(), "predict_request_response_logging_config.enabled") == []
    assert target == Endpoint(display_name="e")
    assert not target.HasField("predict_request_response_logging_config")


def test_an_empty_message_counts_as_there():
    target = Endpoint()
    change = Endpoint(predict_request_response_logging_config={})
    assert apply(target, change, "predict_request_response_logging_config") != []
    assert target.HasField("predict_request_response_logging_config")


@pytest.mark.parametrize(
    ("path", "named", "labels"),
    [
        ("labels.a", "labels.a", {"a": "9", "b": "2"}),
        ("labels.b", "labels.b", {"a": "1"}),
        ("labels.`x.y`", "labels.`x.y`", {"a": "1", "b": "2", "x.y": "z"}),
        ("labels.none", None, {"a": "1", "b": "2"}),
    ],
)
def test_one_key_of_a_map(path, named, labels):
    target = an_endpoint()
    change = Endpoint(labels={"a": "9", "x.y": "z"})
    assert apply(target, change, path) == ([named] if named else [])
    assert dict(target.labels) == labels


def test_without_a_mask_the_allowed_fields_that_are_set_count():
    for mask in (None, FieldMask()):
        target = an_endpoint()
        change = Endpoint(name="x", etag="y", network="z", display_name="new", labels={"c": "3"})
        assert masks.apply(target, change, mask, allowed=ALLOWED) == ["display_name", "labels"]
        assert (target.description, target.network) == ("kept", an_endpoint().network)


def test_a_star_replaces_all_that_is_allowed():
    target = an_endpoint()
    apply(target, Endpoint(display_name="new"), "*")
    assert target == Endpoint(name=an_endpoint().name, network=an_endpoint().network, display_name="new")
    assert "beside" in refusal(target, Endpoint(), "*", "labels")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("colour", 'the path "colour", but Endpoint has no field "colour"'),
        ("labels.a.b", '"labels" has no fields'),
        ("deployed_models.id", '"deployed_models" has no fields'),
        ("display_name.x", '"display_name" has no fields'),
        ("predict_request_response_logging_config.x", 'PredictRequestResponseLoggingConfig has no field "x"'),
        ("network", '"network" of Endpoint cannot be updated; these can be: description, display_name,'),
        ("encryptionSpec.kmsKeyName", '"encryption_spec.kms_key_name" of Endpoint cannot be updated'),
        ("name", '"name" of Endpoint cannot be updated'),
        ("", "no path"), (".", "no path"), ("labels.", "no path"), ("a..b", "no path"), ("`a", "no path"),
    ],
)  # fmt: skip
def test_a_wrong_path_is_named_and_nothing_changes(path, why):
    assert why in refusal(an_endpoint(), Endpoint(display_name="new", network="other"), "display_name", path)


def a_deployed_model(**resources):
    machine = {"machine_type": "n1-standard-2"}
    return DeployedModel(id="7", dedicated_resources={"machine_spec": machine, "min_replica_count": 1} | resources)


def test_a_field_above_allowed_ones_is_taken_if_the_others_stay():
    """MutateDeployedModel: a mask of `dedicated_resources` with the counts alone changed."""
    target = a_deployed_model()
    assert apply(target, a_deployed_model(min_replica_count=2), "dedicatedResources", allowed=MUTABLE) == [
        "dedicated_resources.min_replica_count"
    ]
    assert target == a_deployed_model(min_replica_count=2)
    without_machine = DeployedModel(dedicated_resources={"min_replica_count": 3})
    apply(target, without_machine, "dedicated_resources", allowed=MUTABLE)
    assert target == a_deployed_model(min_replica_count=3)
    other = a_deployed_model(machine_spec={"machine_type": "n1-standard-4"})
    assert '"dedicated_resources.machine_spec" of DeployedModel' in refusal(
        target, other, "dedicated_resources", allowed=MUTABLE
    )


def test_the_text_of_a_rest_call():
    assert list(masks.parse("displayName, labels.`a,b`,,trafficSplit").paths) == [
        "displayName", "labels.`a,b`", "trafficSplit",
    ]  # fmt: skip
    assert list(masks.parse("").paths) == []


def test_a_read_mask_shows_the_named_fields():
    endpoint = an_endpoint()
    mask = FieldMask(paths=["displayName", "labels.a", "predict_request_response_logging_config.sampling_rate", "etag"])
    assert masks.read(endpoint, mask) == Endpoint(
        display_name="old", labels={"a": "1"}, predict_request_response_logging_config={"sampling_rate": 0.5}
    )
    for whole in (None, FieldMask(), FieldMask(paths=["*"])):
        assert masks.read(endpoint, whole) is endpoint
    with pytest.raises(ApiError, match='read mask has the path "x"'):
        masks.read(endpoint, FieldMask(paths=["x"]))


LABELS = st.dictionaries(st.sampled_from(["a", "b", "x.y"]), st.sampled_from("12"), max_size=2)
CONFIGS = st.none() | st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "sampling_rate": st.just(0.5)})
CHANGES = st.builds(
    Endpoint,
    name=st.sampled_from(["", "n"]), display_name=st.sampled_from(["", "d", "e"]), labels=LABELS,
    traffic_split=st.dictionaries(st.sampled_from("78"), st.integers(0, 2), max_size=2),
    predict_request_response_logging_config=CONFIGS,
)  # fmt: skip
PATHS = st.lists(
    st.sampled_from([
        *("display_name", "displayName", "description", "labels", "labels.a", "labels.`x.y`", "trafficSplit"),
        *("traffic_split.7", "predict_request_response_logging_config"),
        *("predictRequestResponseLoggingConfig.enabled", "predict_request_response_logging_config.sampling_rate"),
    ]),
    min_size=1, max_size=5,
)  # fmt: skip


def snake(path):
    from cpr_kit.emulator.filters import snake_case

    return snake_case(path)


@given(CHANGES, CHANGES, PATHS)
def test_masked_fields_become_those_of_the_change_and_the_rest_stays(target, change, paths):
    before = Endpoint()
    before.CopyFrom(target)
    changed = apply(target, change, *paths)
    mask = FieldMask(paths=paths)
    assert masks.read(target, mask) == masks.read(change, mask) or set(paths) & {
        "predict_request_response_logging_config.sampling_rate",
        "predictRequestResponseLoggingConfig.enabled",
    }  # fmt: skip (an empty message is left above what was cleared)
    whole = {path.partition(".")[0] for path in map(snake, paths)}
    for field in Endpoint.DESCRIPTOR.fields:
        if field.name not in whole:
            assert getattr(target, field.name) == getattr(before, field.name)
    assert bool(changed) == (target != before)
    assert set(changed) <= set(map(snake, paths))
    assert apply(target, change, *paths) == []  # doing it again changes nothing


@given(
    CHANGES, CHANGES, st.lists(st.text(alphabet="ab.`*é", max_size=6) | st.sampled_from(["labels", "etag"]), max_size=3)
)
def test_no_mask_crashes(target, change, paths):
    before = target.SerializeToString(deterministic=True)
    try:
        apply(target, change, *paths)
    except ApiError as error:
        assert error.code is Code.INVALID_ARGUMENT
        assert target.SerializeToString(deterministic=True) == before

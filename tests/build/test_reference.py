from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build import reference
from cpr_kit.errors import ConfigError


@pytest.mark.parametrize(
    "name",
    ["iris", "iris:1", "a/b_c/d--e:V1.0-x", "localhost:5000/iris", "us-central1-docker.pkg.dev/my-project/serving/iris:2", "Host.example/x"],
)  # fmt: skip
def test_takes_what_an_engine_takes(name):
    assert reference.checked(name) in (name, f"{name}:latest")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("Iris", 'write "iris"'),
        ("iris:", 'the tag "" '),
        ("iris:a b", 'the tag "a b"'),
        ("iris:" + "x" * 129, "128"),
        ("iris@sha256:0", "digest"),
        ("https://gcr.io/x", "scheme"),
        ("a//b", "joined"),
        ("-iris", "joined"),
        ("iris\n", "joined"),
        ("a/" * 200 + "b", "longer"),
    ],
)
def test_refuses_the_rest_with_the_reason(name, reason):
    with pytest.raises(ConfigError) as caught:
        reference.checked(name)
    assert reason in str(caught.value)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_folders_name_gives_a_reference(name):
    assert reference.checked(reference.default(Path("/nowhere") / name)).endswith(":latest")


def test_a_folders_name_is_kept_as_far_as_it_can_be():
    assert reference.default(Path("/x/My Iris_v2")) == "my-iris-v2:latest"
    assert reference.default(Path("/x/模型")) == "model:latest"

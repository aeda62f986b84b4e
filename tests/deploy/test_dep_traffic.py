from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.deploy.traffic import ALL, with_share


@st.composite
def splits(draw):
    names = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, ALL), min_size=len(names) - 1, max_size=len(names) - 1)))
    return {name: end - start for name, start, end in zip(names, [0, *cuts], [*cuts, ALL], strict=True)}


@given(splits(), st.integers(0, 99))
def test_a_share_is_exact_and_the_rest_keeps_its_proportions(split, share):
    found = with_share(split, "new", share)
    assert sum(found.values()) == ALL
    assert found.get("new", 0) == share
    for name, value in split.items():
        exact = value * (ALL - share) / ALL
        assert exact - 1 < found.get(name, 0) < exact + 1
        assert name not in found or value


@given(splits())
def test_a_share_given_and_taken_away_sums_to_all(split):
    given = with_share(split, "new", 10)
    left = with_share({name: share for name, share in given.items() if name != "new"}, "new", 0)
    assert sum(left.values()) == ALL
    assert "new" not in left


def test_the_only_one_has_all():
    assert with_share({}, "new", 10) == {"new": ALL}
    assert with_share({"old": 0}, "new", 10) == {"new": ALL}
    assert with_share({"new": 30, "old": 70}, "new", 50) == {"old": 50, "new": 50}

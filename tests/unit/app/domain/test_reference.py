"""A reference profile is small, and read back it is what was fitted."""

import json

import numpy as np

from app.domain.identity import canonical_json
from app.domain.reference import FORMAT, ReferenceProfile, columns_shown


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    holes = rng.lognormal(size=n)
    holes[rng.random(n) < 0.1] = np.nan
    return {
        "numeric/amount": rng.normal(size=n) * 1e6,
        "numeric/holes": holes,
        "categorical/id": np.array([f"customer-{i % 1800}" for i in range(n)], dtype=object),
        "categorical/few": rng.choice(np.array(["a", "b", None], object), n),
    }


def read_back(profile):
    document = json.loads(canonical_json(profile.document()))
    return ReferenceProfile.read(document, profile.arrays())


def test_a_profile_read_back_bins_and_counts_as_the_one_that_was_fitted():
    profile = ReferenceProfile.of(table(2000))
    back = read_back(profile)
    fresh = table(500, seed=1)
    fresh["categorical/id"][:5] = "somebody else"

    assert (back.counts == profile.counts).all()
    assert (back.codes == profile.codes).all()
    assert (back.layout.codes(fresh, 500) == profile.layout.codes(fresh, 500)).all()
    assert (back.names, back.n_rows, back.peaks) == (profile.names, 2000, profile.peaks)
    assert [back.tolerance(limit) for limit in (200, 2e4)] == [
        profile.tolerance(limit) for limit in (200, 2e4)
    ]


def test_a_profile_takes_at_most_twenty_kilobytes_a_column_whatever_its_rows():
    for n in (2000, 30_000):
        profile = ReferenceProfile.of(table(n))
        size = len(canonical_json(profile.document())) + len(profile.arrays())
        assert size <= 20_000 * len(profile.names)


def test_a_profile_of_another_format_is_not_read():
    profile = ReferenceProfile.of(table(100))
    document = {**profile.document(), "format": FORMAT + 1}

    assert ReferenceProfile.read(document, profile.arrays()) is None


def test_a_reader_is_shown_bins_counts_and_the_share_missing():
    shown = columns_shown(ReferenceProfile.of(table(2000)).document())
    by_name = {column["name"]: column for column in shown}

    assert by_name["holes"]["kind"] == "numeric"
    assert 0.07 < by_name["holes"]["missing_share"] < 0.13
    assert len(by_name["amount"]["counts"]) == len(by_name["amount"]["edges"]) + 1
    assert sum(by_name["amount"]["counts"]) == 2000
    assert by_name["id"]["n_rare"] == 1600
    assert len(by_name["id"]["counts"]) == 201
    assert set(by_name["few"]["categories"]) == {"a", "b"}

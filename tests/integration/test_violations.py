"""What broke the contract is counted by hour, field and kind, over REST and as a metric."""

from tests.integration.support import LABELS, rows_of


def broken(change, *, prefix):
    (row,) = rows_of(1, prefix=prefix)
    return {**row, **change}


def listed(api, model, **query):
    answer = api.get(f"/v1/models/{model.name}/violations", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(api, model):
    found = listed(api, model)["items"]
    assert {item["hour"][13:] for item in found} <= {":00:00+00:00"}
    return {(item["field"], item["kind"]): item["n"] for item in found}


def test_violations_add_up_over_batches(api, model):
    path = f"/v1/models/{model.name}/observations"
    rows = [
        broken({"inputs": {"text": 5}}, prefix="a"),
        broken({"inputs": {}}, prefix="b"),
        broken({"prediction": "neither"}, prefix="c"),
        *rows_of(2, prefix="good"),
    ]

    for batch in (rows, rows[:1]):
        api.post(path, json={"observations": batch})

    assert counts(api, model) == {
        ("text", "type"): 2,
        ("text", "missing"): 1,
        ("prediction", "value"): 1,
    }
    metrics = api.get("/metrics").text
    line = f'upkeep_contract_violations{{field="text",kind="type",model="{model.name}"}} 2.0'
    assert line in metrics


def test_violations_are_listed_page_by_page(api, model):
    rows = [
        broken({"prediction": LABELS[0] + "x"}, prefix="a"),
        broken({"inputs": {}}, prefix="b"),
        broken({"at": "soon"}, prefix="c"),
    ]
    api.post(f"/v1/models/{model.name}/observations", json={"observations": rows})

    first = listed(api, model, limit=2)
    rest = listed(api, model, limit=2, cursor=first["next_cursor"])

    fields = [item["field"] for page in (first, rest) for item in page["items"]]
    assert fields == ["text", "prediction", "at"]
    assert rest["next_cursor"] is None


def test_good_rows_break_nothing(api, model):
    api.post(f"/v1/models/{model.name}/observations", json={"observations": rows_of(3)})

    assert counts(api, model) == {}

"""How does a program answer with the champion, whichever version that is?"""

import hashlib
import json
import shutil
import threading
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from starlette.responses import JSONResponse, Response
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoImageProcessor,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
)

from upkeep import NotFound, Retries, Unavailable, UnsafeArtifact, Upkeep, UpkeepError
from upkeep.champion import Champion
from upkeep.column_network import Network, Sizes
from upkeep.images import decode
from upkeep.logbook import Logbook
from upkeep.tables import Column

LABELS = ("ham", "spam", "maybe")
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {x: k for k, x in enumerate(LABELS)}}
OBSERVATIONS = "/v1/models/fraud/observations"
CHAMPION = "/v1/models/fraud/champion"
TEXTS = ["free money now", "hello", "", "see you at noon " * 30, "money " * 5]
TAKEN = {"accepted": 1, "duplicates": 0, "rejected": []}


def _card(directory, task_type, field):
    (directory / "upkeep.json").write_text(
        json.dumps({"task_type": task_type, "input_field": field, "labels": LABELS})
    )


def _text_version(
    directory: Path, seed: int, kind=BertForSequenceClassification, names=NAMES
) -> Path:
    torch.manual_seed(seed)
    words = ["[PAD]", "[UNK]", "free", "money", "now", "hello", "see", "you", "at", "noon"]
    inner = Tokenizer(WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    )
    tokenizer.save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.5,
        **names,
    )
    kind(config).save_pretrained(directory)
    _card(directory, "text-classification", "text")
    return directory


def _image_version(directory: Path, n_channels: int) -> Path:
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=n_channels, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], **NAMES
    )
    ResNetForImageClassification(config).save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": True,
                "size": {"height": 16, "width": 20},
                "resample": 2,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": [0.5, 0.4, 0.3][:n_channels],
                "image_std": [0.2, 0.3, 0.4][:n_channels],
            }
        )
    )
    _card(directory, "image-classification", "image")
    return directory


@pytest.fixture(scope="session")
def text_versions(tmp_path_factory):
    return {n: _text_version(tmp_path_factory.mktemp("text"), seed=n) for n in (1, 2)}


class Publisher:
    """What a service with versions answers, files and ETags included."""

    def __init__(self, service):
        self.service = service

    def version(self, number: int, directory: Path) -> dict:
        files = []
        for path in sorted(directory.iterdir()):
            content = path.read_bytes()
            url = f"/v1/models/fraud/versions/{number}/files/{path.name}"
            self.service.answers("GET", url, Response(content))
            files.append(
                {
                    "path": path.name,
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size_bytes": len(content),
                }
            )
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        document = {"number": number, "digest": digest, "files": files}
        self.service.answers("GET", f"/v1/models/fraud/versions/{number}", document)
        return document

    def crown(self, number: int, directory: Path) -> dict:
        document = self.version(number, directory)
        etag = f'"{document["digest"]}.{number}"'

        def champion(seen):
            if seen.headers.get("if-none-match") == etag:
                return Response(status_code=304, headers={"ETag": etag})
            return JSONResponse(document, headers={"ETag": etag})

        self.service.answers("GET", CHAMPION, champion)
        return document


@pytest.fixture
def publisher(service):
    return Publisher(service)


@pytest.fixture
def fraud(upkeep):
    return upkeep.model("fraud")


@pytest.fixture
def open_champion(fraud, tmp_path):
    opened = []

    def open_it(**options):
        settings = {"refresh_seconds": 3600.0, "device": "cpu", **options}
        opened.append(Champion(fraud, tmp_path / "cache", **settings))
        return opened[-1]

    yield open_it
    for champion in opened:
        champion.close()


def _plain_scores(directory, texts):
    """What plain transformers answers, one text at a time."""
    model = BertForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    with torch.inference_mode():
        ids = [tokenizer(text, truncation=True)["input_ids"] or [0] for text in texts]
        rows = [model(torch.tensor([one])).logits.softmax(dim=1)[0] for one in ids]
    return np.stack([row.numpy() for row in rows])


def _table(predictions):
    return np.asarray([[one.scores[label] for label in LABELS] for one in predictions])


def test_texts_are_answered_as_plain_transformers_would_in_their_order(
    publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    found = open_champion().predict([{"text": text} for text in TEXTS])
    expected = _plain_scores(text_versions[1], TEXTS)
    assert np.allclose(_table(found), expected, atol=1e-6)
    assert [one.label for one in found] == [LABELS[k] for k in expected.argmax(axis=1)]
    assert {one.version for one in found} == {1}


def test_bare_values_are_taken_for_the_field_that_the_version_reads(
    publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    champion = open_champion()
    assert champion.predict(["hello"]) == champion.predict([{"text": "hello"}])


def test_rows_of_columns_are_objects_in_which_some_may_be_missing(
    publisher, open_champion, tmp_path
):
    draw = np.random.default_rng(0)
    table = draw.normal(size=(300, 2))
    settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(table, (table[:, 0] > 0).astype(int) + (table[:, 1] > 0))
    lightgbm.train(settings, data, 5).save_model(tmp_path / "model.txt")
    columns = [{"name": "x", "type": "number"}, {"name": "y", "type": "number"}]
    names = {str(place): label for place, label in enumerate(LABELS)}
    (tmp_path / "config.json").write_text(json.dumps({"columns": columns, "id2label": names}))
    publisher.crown(1, tmp_path)
    champion = open_champion()
    found = champion.predict([{"x": 2.0, "y": 2.0}, {"x": -2.0}])
    expected = lightgbm.Booster(model_file=tmp_path / "model.txt").predict(
        np.array([[2.0, 2.0], [-2.0, np.nan]])
    )
    assert np.allclose(_table(found), expected, atol=1e-6)
    assert found[0].label == "maybe"
    with pytest.raises(ValueError, match="input 1 must be an object"):
        champion.predict([{"x": 1.0}, 2.0])
    with pytest.raises(ValueError, match="input 0 has none of the columns x, y"):
        champion.predict([{"z": 1.0}])


@pytest.mark.parametrize("labels", [LABELS, ()])
def test_a_network_over_columns_answers_with_scores_or_with_numbers(
    publisher, open_champion, tmp_path, labels
):
    columns = (Column("x", "number", knots=(-1.0, 0.0, 1.0)), Column("kind", "category", ("a",)))
    network = Network.drawn(labels, columns, Sizes(), seed=0)
    network.model.eval()
    save_file(network.model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(network.document()))
    publisher.crown(1, tmp_path)
    inputs = [{"x": 0.3, "kind": "a"}, {"x": -7.0}, {"kind": "unheard of"}]
    found = open_champion().predict(inputs)
    if labels:
        assert np.array_equal(_table(found), network.scores(inputs))
        return
    assert [answer.value for answer in found] == network.values(inputs).tolist()


def test_no_inputs_have_no_answers(publisher, open_champion, text_versions):
    publisher.crown(1, text_versions[1])
    assert open_champion().predict([]) == []


def test_an_input_without_its_field_is_refused_by_its_place(
    publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    with pytest.raises(ValueError, match="input 1 has no text in 'text'"):
        open_champion().predict([{"text": "a"}, {"txt": "b"}])


@pytest.mark.parametrize(("n_channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pictures_are_answered_as_transformers_own_processor_would(
    publisher, open_champion, tmp_path, n_channels, mode
):
    directory = _image_version(tmp_path, n_channels)
    publisher.crown(1, directory)
    draw = np.random.default_rng(0)
    pictures = [
        Image.fromarray(draw.integers(0, 256, (height, 24, 3), dtype=np.uint8))
        for height in (12, 16, 40)
    ]
    found = open_champion().predict([{"image": picture} for picture in pictures])
    processor = AutoImageProcessor.from_pretrained(directory, backend="pil")
    model = ResNetForImageClassification.from_pretrained(directory).eval()
    planes = [np.asarray(picture.convert(mode)) for picture in pictures]
    batch = processor(
        [plane[..., None] if mode == "L" else plane for plane in planes],
        return_tensors="pt",
        input_data_format="channels_last",
    )
    with torch.inference_mode():
        expected = model(**batch).logits.softmax(dim=1).numpy()
    assert np.allclose(_table(found), expected, atol=1e-4)


def test_a_picture_is_answered_alike_in_every_form(publisher, open_champion, tmp_path):
    publisher.crown(1, _image_version(tmp_path, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20), dtype=np.uint8)
    champion = open_champion()
    forms = [pixels, Image.fromarray(pixels)]
    first, second = champion.predict(forms)
    assert first == second


def test_a_model_without_a_champion_has_none_to_answer(service, open_champion, refuse):
    service.answers("GET", CHAMPION, refuse(404, "this model has no champion yet"))
    with pytest.raises(NotFound, match="no champion yet"):
        open_champion()


def test_answers_are_logged_with_the_version_that_gave_them(
    service, publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    service.answers("POST", OBSERVATIONS, TAKEN)
    found = open_champion().answer(["hello", "money"], ids=["a", "b"])
    rows = service.requests("POST", OBSERVATIONS)[0].json["observations"]
    assert [row.pop("at")[-6:] for row in rows] == ["+00:00"] * 2
    assert rows == [
        {
            "id": id_,
            "inputs": {"text": text},
            "prediction": one.label,
            "scores": one.scores,
            "version": 1,
        }
        for id_, text, one in zip(["a", "b"], ["hello", "money"], found, strict=True)
    ]
    assert [one.id for one in found] == ["a", "b"]


def test_spans_are_answered_and_logged_as_the_service_takes_them(
    service, publisher, open_champion, tmp_path
):
    tags = dict(enumerate(["O", "B-offer", "I-offer"]))
    names = {"id2label": tags, "label2id": {tag: place for place, tag in tags.items()}}
    version = _text_version(tmp_path, 3, BertForTokenClassification, names)
    (version / "upkeep.json").unlink()  # as plain transformers writes it
    publisher.crown(1, version)
    service.answers("POST", OBSERVATIONS, TAKEN)
    champion = open_champion()
    assert champion.labels == ("offer",)
    found = champion.answer(TEXTS)
    assert champion.predict([]) == []
    assert found[2].spans == ()
    spans = [(text, span) for text, one in zip(TEXTS, found, strict=True) for span in one.spans]
    assert {span.label for _, span in spans} == {"offer"}
    assert all(text[span.start : span.end].strip() for text, span in spans)
    rows = service.requests("POST", OBSERVATIONS)[0].json["observations"]
    assert "scores" not in rows[0]
    assert [row["prediction"] for row in rows] == [
        [{"start": span.start, "end": span.end, "label": span.label} for span in one.spans]
        for one in found
    ]


def test_pictures_are_logged_as_png(service, publisher, open_champion, tmp_path):
    publisher.crown(1, _image_version(tmp_path, 1))
    service.answers("POST", OBSERVATIONS, TAKEN)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20), dtype=np.uint8)
    open_champion().answer([pixels])
    row = service.requests("POST", OBSERVATIONS)[0].json["observations"][0]
    assert np.array_equal(np.asarray(decode(row["inputs"]["image"])), pixels)


def test_answers_that_are_not_to_be_logged_are_not(
    service, publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    (found,) = open_champion().answer(["hello"], log=False)
    assert found.id == ""
    assert not service.requests("POST", OBSERVATIONS)


def test_too_few_ids_are_refused(publisher, open_champion, text_versions):
    publisher.crown(1, text_versions[1])
    with pytest.raises(ValueError, match="1 ids do not fit 2 inputs"):
        open_champion().answer(["a", "b"], ids=["a"])


def test_an_outage_of_the_log_is_no_outage_of_the_answers(
    service, publisher, open_champion, text_versions, fraud, refuse
):
    publisher.crown(1, text_versions[1])
    service.answers("POST", OBSERVATIONS, refuse(503))
    logbook = Logbook(fraud, pause_seconds=0.0)
    champion = open_champion(logbook=logbook)
    champion.answer(["hello"], ids=["a"])
    assert logbook.n_kept == 1
    service.answers("POST", OBSERVATIONS, TAKEN)
    champion.answer(["money"], ids=["b"])
    assert logbook.n_kept == 0
    last = service.requests("POST", OBSERVATIONS)[-1].json["observations"]
    assert [row["id"] for row in last] == ["a", "b"]


def test_an_unchanged_champion_is_not_downloaded_again(
    service, publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    champion = open_champion()
    service.seen.clear()
    assert champion.refresh() is False
    assert [seen.path for seen in service.seen] == [CHAMPION]


def test_a_new_champion_answers_after_a_refresh(publisher, open_champion, text_versions):
    publisher.crown(1, text_versions[1])
    champion = open_champion()
    publisher.crown(2, text_versions[2])
    assert champion.refresh() is True
    found = champion.predict(TEXTS)
    assert {one.version for one in found} == {2} == {champion.version}
    assert np.allclose(_table(found), _plain_scores(text_versions[2], TEXTS), atol=1e-6)


def test_the_same_files_under_a_new_number_are_a_new_version_but_no_new_download(
    service, publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    champion = open_champion()
    publisher.crown(2, text_versions[1])
    service.seen.clear()
    assert champion.refresh() is True
    assert champion.version == 2
    assert [seen.path for seen in service.seen] == [CHAMPION]


def test_a_new_champion_is_taken_up_by_answering_alone(
    publisher, open_champion, text_versions, eventually
):
    publisher.crown(1, text_versions[1])
    champion = open_champion(refresh_seconds=0.0)
    publisher.crown(2, text_versions[2])
    eventually(lambda: champion.predict(["hello"])[0].version == 2)


def test_a_new_champion_that_is_not_as_promised_never_answers(
    service, publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    champion = open_champion()
    publisher.crown(2, text_versions[2])
    path = "/v1/models/fraud/versions/2/files/model.safetensors"
    service.answers("GET", path, Response(b"something else"))
    with pytest.raises(UnsafeArtifact):
        champion.refresh()
    assert champion.predict(["hello"])[0].version == 1


NO_WEIGHTS = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "


@pytest.mark.parametrize("weights", [NO_WEIGHTS, b"torn"], ids=["missing", "torn"])
def test_a_new_champion_that_cannot_be_loaded_never_answers(
    publisher, open_champion, text_versions, tmp_path, eventually, caplog, weights
):
    publisher.crown(1, text_versions[1])
    champion = open_champion(refresh_seconds=0.0)
    broken = tmp_path / "broken"
    shutil.copytree(text_versions[2], broken)
    (broken / "model.safetensors").write_bytes(weights)
    publisher.crown(2, broken)
    eventually(
        lambda: champion.predict(["hello"])[0].version == 1 and "champion.kept" in caplog.text
    )
    publisher.crown(2, text_versions[2])
    eventually(lambda: champion.predict(["hello"])[0].version == 2)


def test_an_outage_of_the_service_keeps_the_champion_answering(
    service, publisher, open_champion, text_versions, refuse
):
    publisher.crown(1, text_versions[1])
    champion = open_champion()
    service.answers("GET", CHAMPION, refuse(500))
    with pytest.raises(UpkeepError):
        champion.refresh()
    assert champion.predict(["hello"])[0].version == 1


def test_calls_during_a_switch_are_each_answered_by_one_version(
    publisher, open_champion, text_versions
):
    publisher.crown(1, text_versions[1])
    champion = open_champion()
    expected = {n: _plain_scores(text_versions[n], TEXTS) for n in (1, 2)}
    over, wrong, seen = threading.Event(), [], set()

    def ask():
        while not over.is_set():
            found = champion.predict(TEXTS)
            numbers = {one.version for one in found}
            seen.update(numbers)
            if len(numbers) > 1 or not np.allclose(
                _table(found), expected[found[0].version], atol=1e-6
            ):
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in (2, 1, 2):
        publisher.crown(number, text_versions[number])
        champion.refresh()
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 1 in seen


def test_a_pinned_version_stays_whatever_is_crowned(
    service, publisher, fraud, text_versions, tmp_path
):
    publisher.version(1, text_versions[1])
    pinned = Champion.pinned(fraud, 1, tmp_path, device="cpu")
    publisher.crown(2, text_versions[2])
    assert pinned.refresh() is False
    assert pinned.predict(["hello"])[0].version == 1
    assert not service.requests("GET", CHAMPION)


def test_a_program_that_starts_during_an_outage_answers_with_the_champion_last_seen(
    service, publisher, open_champion, fraud, text_versions, tmp_path, refuse
):
    publisher.crown(1, text_versions[1])
    open_champion()
    service.answers("GET", CHAMPION, refuse(503, headers={"Retry-After": "60"}))
    again = open_champion()
    assert again.predict(["hello"])[0].version == 1
    publisher.crown(2, text_versions[2])
    assert again.refresh() is True


def test_a_program_that_never_saw_a_champion_cannot_start_during_an_outage(unused_url, tmp_path):
    with (
        Upkeep(unused_url, retries=Retries(0.0)) as client,
        pytest.raises(Unavailable),
    ):
        Champion(client.model("fraud"), tmp_path)

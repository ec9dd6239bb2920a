"""What the documentation says is so."""

import ast
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from app.api import problems
from app.config import Settings
from app.domain import training, versions
from app.domain.policies import Policy
from workers.detectors import detectors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATE = loaded(DOCS / "generate.py")


@pytest.mark.parametrize("page", GENERATE.pages(), ids=lambda page: page.name)
def test_every_table_says_what_the_code_says(page):
    text = page.read_text()
    assert text == GENERATE.renewed(text), "run `python docs/generate.py` and read the diff"


def test_every_block_that_can_be_generated_is_shown_once():
    shown = [
        name
        for page in PAGES
        for name in re.findall(r"<!-- generated: (\S+) -->", page.read_text())
    ]
    assert sorted(shown) == sorted(GENERATE.BLOCKS)


def test_both_state_machines_are_drawn_edge_by_edge():
    text = (DOCS / "architecture.md").read_text()
    for table in (versions.TRANSITIONS, training.TRANSITIONS):
        for (before, event), after in table.items():
            assert f"    {before} --> {after}: {event}\n" in text
    drawn = len(re.findall(r"^    \w+ --> \w+: \w+$", text, re.MULTILINE))
    assert drawn == len(versions.TRANSITIONS) + len(training.TRANSITIONS)


def test_every_setting_and_every_knob_has_its_line():
    operations, policy = (DOCS / "operations.md").read_text(), (DOCS / "policy.md").read_text()
    assert set(GENERATE.SETTINGS) == set(Settings.model_fields)
    for name in Settings.model_fields:
        assert f"`UPKEEP_{name.upper()}`" in operations
    for section in ("check", "performance", "retrain"):
        for name in vars(getattr(Policy(), section)):
            assert re.search(rf"`{section}\.{name}[`.]", policy)


def problem_types() -> set[str]:
    """Every type that the code can answer or store."""
    found = {kind for _, _, kind in problems.PROBLEMS}
    found |= set(problems._BY_STATUS.values())
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        text = path.read_text()
        found |= set(re.findall(r'"/problems/([a-z-]+)"', text))
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            place = {"problem": 0, "problem_response": 2}.get(name)
            if place is not None and len(call.args) > place:
                said = call.args[place]
                if isinstance(said, ast.Constant) and isinstance(said.value, str):
                    found.add(said.value)
    return found


def test_every_problem_type_is_documented_and_none_is_made_up():
    listed = re.findall(r"^\| `/problems/([a-z-]+)` \|", (DOCS / "problems.md").read_text(), re.M)
    assert len(listed) == len(set(listed))
    assert set(listed) == problem_types()


def test_the_status_of_a_problem_is_the_one_documented():
    text = (DOCS / "problems.md").read_text()
    for _, status, kind in problems.PROBLEMS:
        assert f"| `/problems/{kind}` | {status} |" in text
    for status, kind in problems._BY_STATUS.items():
        assert f"| `/problems/{kind}` | {status} |" in text


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_commands_of_the_tour_are_those_of_the_script():
    readme = (ROOT / "README.md").read_text()
    tour = readme[readme.index("## A tour with curl") : readme.index("## From Python")]
    script = (DOCS / "tour.sh").read_text()
    lines = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```$", tour, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
        if not line.startswith("export ")
    ]
    assert len(lines) > 25
    unsaid = [line for line in lines if line not in script]
    # the script looks for the status of the last, which curl would take for a failure
    assert unsaid == ["curl $UPKEEP_URL/v1/models/$MODEL/retrain \\"]


def test_the_script_of_the_tour_can_be_run():
    assert (DOCS / "tour.sh").stat().st_mode & 0o111
    assert (DOCS / "tour.sh").read_text().startswith("#!/usr/bin/env bash\n")


def tree_of(page: Path) -> list[str]:
    """The paths of an annotated tree: two spaces a level, folders with a slash."""
    (tree,) = [block for block in blocks(page, "") if block.startswith("app/ ")]
    above: list[str] = []
    found = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name]
        found.append("".join(above))
    return found


def test_everything_in_the_annotated_tree_is_there():
    paths = tree_of(ROOT / "README.md")
    assert len(paths) > 15
    for path in paths:
        assert (ROOT / path).exists(), path
    packages = {
        f"app/{child.name}/"
        for child in (ROOT / "app").iterdir()
        if (child / "__init__.py").exists()
    }
    assert packages <= set(paths), "a package of the app is not in the tree"


def test_every_file_named_in_the_walk_is_there():
    text = (DOCS / "architecture.md").read_text()
    walk = text[text.index("## The walk") : text.index("Imports point down")]
    heads = ["app/domain", "app/services", "app/adapters/postgres"]
    for row in re.findall(r"^\| (?!Step|---)(.*) \|$", walk, re.MULTILINE):
        for place, cell in enumerate(row.split("|")[1:]):
            for path in re.findall(r"`([\w./]+)`", cell):
                folder = heads[place] if place < len(heads) and "/" not in path else ""
                assert (ROOT / folder / path).exists(), path


def test_decisions_are_numbered_and_short():
    records = sorted((DOCS / "decisions").glob("*.md"))
    assert [record.name[:4] for record in records] == [
        f"{n:04}" for n in range(1, len(records) + 1)
    ]
    for record in records:
        assert record.read_text().startswith(f"# {record.name[:4]}: ")
        assert len(record.read_text().splitlines()) < 40
        assert f"](decisions/{record.name})" in (DOCS / "architecture.md").read_text()


def test_the_detector_shown_sees_a_shift_and_nothing_else(monkeypatch):
    added = {}
    monkeypatch.setattr(detectors, "add", added.__setitem__)
    (source,) = blocks(DOCS / "adding-a-detector.md", "python")
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)  # dataclasses look their module up
    exec(compile(source, "adding-a-detector.md", "exec"), module.__dict__)
    (detector,) = added.values()
    rng = np.random.default_rng(0)
    before, same, moved = rng.normal(size=500), rng.normal(size=500), rng.normal(1.0, size=500)
    assert detector.measure(before, moved, seed=0).p_value < 1e-6
    assert detector.measure(before, same, seed=0).p_value > 0.01
    assert detector.measure(before, moved, seed=0).effect > detector.tolerated_effect
    assert inspect.getdoc(type(detector))


def test_the_picture_of_the_loop_is_well_formed():
    text = (DOCS / "loop.svg").read_text()
    assert text.startswith("<svg ")
    assert text.count("<title") == 1
    assert "<script" not in text
    assert "![" in (ROOT / "README.md").read_text()


def test_the_license_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")

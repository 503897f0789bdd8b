"""README and docs: links lead somewhere, the glossary names code that exists, commands name stages and parameters."""

import importlib
import re
import shlex

import pytest

from medscope.pipeline.parameters import NOTEBOOKS, ROOT, declared_parameters, notebook_of, overlay, read_parameters

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.name: page.read_text() for page in PAGES}
OWN_TESTS = ("adding_a_source.md", "changing_the_reward.md")  # their commands follow an edit of the code
LINES = [line for page, text in TEXTS.items() if page not in OWN_TESTS for line in text.splitlines()]
COMMANDS = [line.partition("#")[0].strip() for line in LINES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not missing


def test_every_notebook_and_test_that_is_named_exists():
    named = {name for text in TEXTS.values() for name in re.findall(r"\b(?:notebooks|tests)/\w+\.(?:ipynb|py)\b", text)}
    assert named and not [name for name in named if not (ROOT / name).exists()]


def code_of_the_glossary():
    cells = [line.split("|")[-2] for line in TEXTS["glossary.md"].splitlines() if line.count("|") == 4]
    return sorted({name for cell in cells for name in re.findall(r"`([\w.]+)`", cell) if "." in name})


@pytest.mark.parametrize("name", code_of_the_glossary())
def test_the_glossary_names_code_that_exists(name):
    """`suite.splits` is a module, `records.Task` a member of one, `Task.challenging` a field of a member."""
    parts = name.split(".")
    if parts[0][0].isupper():
        home = {"Task": "records", "Recording": "records", "WarmUpExample": "records", "Rollout": "agents.rollout"}
        parts = [*home[parts[0]].split("."), *parts]
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["medscope", *parts[:cut]]))
            break
        except ModuleNotFoundError:
            continue
    else:
        pytest.fail(f"no module of medscope begins {name}")
    for part in parts[cut:]:
        if part in getattr(found, "__dataclass_fields__", ()):
            break
        found = getattr(found, part)


def test_every_change_in_a_command_names_a_section_and_a_parameter():
    changes = [word for line in COMMANDS for word in re.findall(r"-S '?(\w+\.\w+)=", line)]
    sections = read_parameters()
    for change in changes:
        section, _, name = change.partition(".")
        assert name in sections[section], change
    assert len(changes) >= 4


def test_every_stage_in_a_command_exists_and_declares_what_is_changed():
    runs = [shlex.split(line) for line in COMMANDS if line.startswith("python -m medscope.pipeline.stage ")]
    runs = [words[3:] for words in runs if "NAME" not in words]
    assert len(runs) >= 3
    for stage, *words in runs:
        assert stage in NOTEBOOKS
        changed = {word.partition("=")[0] for word in words if "=" in word}
        assert changed <= set(declared_parameters(notebook_of(stage)))
        for name in [words[i + 1] for i, word in enumerate(words) if word == "--with"]:
            assert set(overlay(read_parameters(), name)) <= set(declared_parameters(notebook_of(stage)))


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for text in TEXTS.values() for target in re.findall(r"`make ([a-z-]+)", text)}
    named |= {line.split()[1] for line in COMMANDS if line.startswith("make ")}
    assert {"repro", "readme", "studies"} <= named <= targets

"""docs/changing_the_reward.md: its diff applies to the rewards as they are, its checks hold, its commands exist."""

import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

from medscope import rewards
from medscope.pipeline.parameters import declared_parameters, notebook_of
from medscope.pipeline.stage import parse

PAGE = Path(__file__).parents[1] / "docs" / "changing_the_reward.md"


def blocks(language):
    """The code blocks of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """medscope.rewards after the change of the page."""
    copy = tmp_path / "medscope" / "rewards.py"
    copy.parent.mkdir()
    copy.write_text(Path(rewards.__file__).read_text())
    (tmp_path / "precise.diff").write_text(*blocks("diff"))
    subprocess.run(["git", "apply", "precise.diff"], cwd=tmp_path, check=True)
    module = types.ModuleType("medscope.rewards")
    exec(compile(copy.read_text(), copy, "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "medscope.rewards", module)
    return module


def test_the_checks_of_the_page_hold_after_its_change(changed):
    exec(*blocks("python"), {})
    assert changed.RewardSettings().form == "paper"


def test_the_checks_of_the_page_fail_without_its_change():
    with pytest.raises(ValueError, match="reward form 'precise' is unknown"):
        exec(*blocks("python"), {})


def test_the_change_is_about_twenty_lines():
    added = [line for line in blocks("diff")[0].splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert len(added) <= 20


def test_the_commands_and_parameters_of_the_page_exist():
    overrides = yaml.safe_load(blocks("yaml")[0])["ablation_overrides"]["precise"]
    assert set(overrides) <= set(declared_parameters(notebook_of("ga_grpo")))
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        python, dash, module, *words = shlex.split(command)
        assert (python, dash, module) == ("python", "-m", "medscope.pipeline.stage")
        _, arguments = parse(words)
        names = {word.partition("=")[0] for word in arguments.overrides}
        assert names <= set(declared_parameters(notebook_of(arguments.stage)))

"""The lines that end `make repro`, and the results that `make readme` writes."""

import json

import pytest

from medscope.reporting.report import (
    README_COLUMNS,
    README_MARKS,
    describe_markdown,
    differences_markdown,
    markdown,
    results_page,
    write_readme,
)

SCORES = {name: 0.5 for name in README_COLUMNS} | {f"{name}_ci": [0.25, 0.75] for name in README_COLUMNS}
WORSE = {**SCORES, "accuracy": 0.25, "tg_r50": None, "tg_r50_ci": None}
TABLE = {"rl": {"clips": SCORES}, "sft": {"clips": WORSE}}


@pytest.fixture
def metrics(tmp_path):
    (tmp_path / "evaluate.json").write_text(json.dumps(TABLE))
    (tmp_path / "gains.json").write_text(json.dumps({"clips": {"accuracy": "+0.100 [+0.050, +0.150]"}}))
    return tmp_path


def test_the_table_has_a_row_per_split_and_system_in_order_of_accuracy_and_a_dash_for_what_is_not_asked():
    lines = markdown(TABLE, ("tg_r50", "accuracy")).splitlines()
    assert lines[0] == "| split | system | tg_r50 | accuracy |"
    assert lines[2] == "| clips | sft | – | 0.25 [0.25, 0.75] |"
    assert lines[3] == "| clips | rl | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75] |"


def test_the_readme_keeps_its_words_and_gets_the_results(metrics, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{README_MARKS[0]}\nold\n{README_MARKS[1]}\nafter\n")
    write_readme(readme, metrics)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "clips, seed 0: accuracy +0.100 [+0.050, +0.150]" in text and "seeds" not in text
    gain = {"accuracy": {"mean": 0.12, "ci": [0.06, 0.18], "per_seed": [0.1, 0.14], "std": 0.02}}
    (metrics / "seeds.json").write_text(json.dumps({"clips": {"sft": {}, "seed 0": {}, "seed 1": {}, "gain": gain}}))
    write_readme(readme, metrics)
    assert "clips, mean of 2 seeds of RL: accuracy +0.120 [+0.060, +0.180]" in readme.read_text()


def test_a_readme_without_its_marks_is_not_touched(metrics, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("words")
    with pytest.raises(SystemExit, match="lacks the lines"):
        write_readme(readme, metrics)
    assert readme.read_text() == "words"


def test_differences_are_bold_where_the_interval_excludes_zero():
    rows = {"a": {"accuracy": {"mean": 0.1, "ci": [0.05, 0.2]}}, "b": {"accuracy": {"mean": -0.1, "ci": [-0.2, 0.01]}}}
    lines = differences_markdown(rows, "part", "mean", "ci").splitlines()
    assert lines[0] == "| part | accuracy |"
    assert lines[2:] == ["| a | **+0.100** [+0.050, +0.200] |", "| b | -0.100 [-0.200, +0.010] |"]


def test_free_text_has_a_row_per_task_and_a_column_per_system():
    scores = {"exact": 0.5, "BLEU-4": 41.26, "CIDEr": 2.0, "METEOR": None, "ROUGE-L": 80.0}
    table = {"cataract": {"full sft": scores, "full rl": scores, "fine sft": scores, "fine rl": scores}}
    lines = describe_markdown(table).splitlines()
    assert lines[0] == "| split | task | sft | rl |" and len(lines) == 4
    assert lines[2] == "| cataract | full | 0.50 / 41.3 / 2.0 / 80.0 | 0.50 / 41.3 / 2.0 / 80.0 |"


def test_the_longer_tables_come_from_the_metrics_and_from_nothing_else(metrics):
    cell = {"accuracy": {"mean": 0.1, "ci": [0.05, 0.2], "minus_full": -0.3, "minus_full_ci": [-0.4, -0.2]}}
    text = {"exact": 0.5, "BLEU-4": 41.26, "CIDEr": 2.0, "ROUGE-L": 80.0}
    (metrics / "protocol.json").write_text(json.dumps({"judge": "exact"}))
    (metrics / "descriptions.json").write_text(json.dumps({"clips": {"full sft": text}}))
    assert "make baselines" not in results_page(metrics), "a study that was not run is not mentioned"
    (metrics / "baselines.json").write_text(json.dumps({"systems": TABLE, "added": {"tools": {"clips": cell}}}))
    study = {"seeds": [0, 1], "steps": 60, "splits": {"clips": {"full": cell, "no_evidence": cell}}}
    (metrics / "ablation_study.json").write_text(json.dumps(study))
    page = results_page(metrics)
    for row in (
        "judge exact",
        "| tools | **+0.100** [+0.050, +0.200] |",
        "| no_evidence | **-0.300** [-0.400, -0.200] |",
    ):
        assert row in page
    assert "clips, 2 seeds of 60 updates" in page and "| clips | full | 0.50 / 41.3 / 2.0 / 80.0 |" in page
    assert "| full | " not in page.replace("| clips | full |", "")

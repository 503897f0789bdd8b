"""The lines that end `make repro`, and the tables that `make readme` writes."""

import json
import subprocess

import pytest

from medscope.reporting.markdown import arms_table, contrasts_table, free_text_table, markdown_table, scores_table
from medscope.reporting.report import MARKS, README_COLUMNS, main, recorded_in, results_section, told, write_readme

SCORES = {name: 0.5 for name in README_COLUMNS} | {f"{name}_ci": [0.25, 0.75] for name in README_COLUMNS}
SCORES |= {"calls": 1.0, "calls_ci": [1.0, 1.0]}
WORSE = {**SCORES, "accuracy": 0.25, "tg_r70": None, "tg_r70_ci": None}
UNSEEING = {**WORSE, "calls": 0.0, "evidence_miou": 0.0, "evidence_miou_ci": [0.0, 0.0]}
TABLE = {  # sorted, as JSON on disk is; the first set is out of domain
    "blind": {"far": UNSEEING, "near": UNSEEING},
    "rl": {"far": SCORES, "near": SCORES},
    "sft": {"far": WORSE, "near": WORSE},
}
SETS = [{"name": "far", "domain": "out", "tasks": 3}, {"name": "near", "domain": "in", "tasks": 5}]
PROTOCOL = {"judge": "exact", "skim_frames": {"rl": 20, "sft": 8}, "eval_sets": SETS}


@pytest.fixture
def root(tmp_path):
    """A repository with metrics of one `make repro`, and pages with marks."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "docs").mkdir()
    write(tmp_path, evaluate=TABLE, gains={"near": {"accuracy": "+0.100 [+0.050, +0.150]"}}, protocol=PROTOCOL)
    for page in ("README.md", "docs/results.md"):
        (tmp_path / page).write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    return tmp_path


def write(root, **metrics):
    for name, value in metrics.items():
        (root / "metrics" / f"{name}.json").write_text(json.dumps(value))


def test_a_table_has_a_row_per_set_and_system_and_a_dash_for_what_is_not_asked_or_zero_by_definition():
    lines = scores_table(TABLE, ("tg_r70", "evidence_miou", "accuracy", "never_measured"), ["near"]).splitlines()
    assert lines[0] == "| eval set | system | tg_r70 | evidence_miou | accuracy |"
    assert lines[2:] == [
        "| near | blind | – | – | 0.25 [0.25, 0.75] |",
        "| near | rl | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75] |",
        "| near | sft | – | 0.50 [0.25, 0.75] | 0.25 [0.25, 0.75] |",
    ]


def test_a_pipe_or_a_line_break_in_a_cell_does_not_end_it():
    assert markdown_table(["a"], [["x|y\nz"]]).splitlines()[2] == "| x\\|y z |"


CELL = {"mean": 0.1, "ci": [0.05, 0.2], "p": 0.001, "p_holm": 0.002, "equivalent": False, "per_seed": [0.1]}
NONE = {"mean": 0.0, "ci": [-0.01, 0.01], "p": 0.9, "p_holm": 1.0, "equivalent": True, "per_seed": [0.0]}


def test_contrasts_are_bold_where_the_corrected_p_is_small_and_say_where_no_effect_is_left():
    unknown = {"mean": -0.1, "ci": None, "p": None, "p_holm": None, "equivalent": False, "per_seed": [-0.1]}
    lines = contrasts_table({"a": {"accuracy": CELL}, "b": {"accuracy": NONE, "format": unknown}}).splitlines()
    assert lines[0] == "| contrast | accuracy | format |"
    assert lines[2:] == [
        "| a | **+0.100** [+0.050, +0.200] p .002 | – |",
        "| b | +0.000 [-0.010, +0.010] none | -0.100 |",
    ]


def test_arms_show_the_spread_of_seeds():
    arms = {
        "rl": {"accuracy": {"mean": 0.5, "per_seed": [0.4, None, 0.6]}},
        "sft": {"accuracy": {"mean": None, "per_seed": [None]}},
    }
    assert arms_table(arms, ["accuracy", "format"]).splitlines()[2:] == ["| rl | 0.500 [0.400, 0.600] |", "| sft | – |"]


def test_free_text_has_a_row_per_kind_and_a_column_per_system():
    scores = {"exact": 0.5, "BLEU-4": 41.26, "CIDEr": 2.0, "METEOR": None, "ROUGE-L": 80.0}
    table = {"near": {"full sft": scores, "full rl": scores, "fine sft": scores}}
    lines = free_text_table(table).splitlines()
    assert lines[0] == "| eval set | kind | sft | rl |" and len(lines) == 4
    assert lines[2] == "| near | full | 0.50 / 41.3 / 2.0 / 80.0 | 0.50 / 41.3 / 2.0 / 80.0 |"
    assert lines[3] == "| near | fine | 0.50 / 41.3 / 2.0 / 80.0 | – |"


def test_the_readme_keeps_its_words_and_gets_the_systems_in_order_on_the_first_set_in_domain(root):
    write_readme(root)
    text = (root / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| near | ")]
    assert [row.split(" | ")[1] for row in rows] == ["blind", "sft", "rl"] and "| far |" not in text


def test_metrics_of_a_run_without_a_protocol_still_make_a_readme(root):
    (root / "metrics" / "protocol.json").unlink()
    write_readme(root)
    assert "| far | sft |" in (root / "README.md").read_text(), "the first set of the table"


def test_systems_that_were_asked_different_tasks_still_have_an_order_of_sets(root):
    write(root, protocol={**PROTOCOL, "eval_sets": {"rl": SETS, "sft": SETS[:1]}})
    write_readme(root)
    assert "| near | sft |" in (root / "README.md").read_text()


def test_writing_twice_changes_nothing_more(root):
    write_readme(root)
    once = [(root / page).read_text() for page in ("README.md", "docs/results.md")]
    write_readme(root)
    assert once == [(root / page).read_text() for page in ("README.md", "docs/results.md")]


def test_a_page_without_its_marks_is_an_error_that_names_it(root):
    (root / "README.md").write_text("words")
    with pytest.raises(SystemExit, match=r"README\.md lacks the lines"):
        write_readme(root)
    assert (root / "README.md").read_text() == "words"


def test_without_metrics_the_command_says_what_to_run(root):
    (root / "metrics" / "evaluate.json").unlink()
    with pytest.raises(SystemExit, match=r"evaluate\.json does not exist; run `make repro` first"):
        write_readme(root)
    with pytest.raises(SystemExit, match="does not exist"):
        main([str(root / "metrics" / "evaluate.json"), "report.html"])


def test_pictures_of_the_report_are_copied_and_a_missing_one_keeps_the_old(root, capsys):
    (root / "docs" / "trajectory.png").write_bytes(b"old")
    write_readme(root)
    assert (root / "docs" / "trajectory.png").read_bytes() == b"old"
    assert "docs/trajectory.png is kept as it is" in capsys.readouterr().out
    (root / "outputs" / "report").mkdir(parents=True)
    (root / "outputs" / "report" / "near_success_0.png").write_bytes(b"new")
    write_readme(root)
    assert (root / "docs" / "trajectory.png").read_bytes() == b"new"


def test_the_longer_tables_come_from_the_metrics_and_a_study_that_was_not_run_is_not_mentioned(root):
    text = {"exact": 0.5, "BLEU-4": 41.26, "CIDEr": 2.0, "ROUGE-L": 80.0}
    write(root, descriptions={"near": {"full sft": text}}, audit={"rl near": {"right": 7, "flip_blank": 0.5}})
    metrics = root / "metrics"
    assert "Study" not in results_section(metrics)
    arms = {"rl": {"accuracy": {"mean": 0.5, "per_seed": [0.4, 0.6]}}}
    study = {"arms": {"far": arms, "near": arms}, "contrasts": {"near": {"RL": {"accuracy": CELL}}}, "delta": 0.02}
    (metrics / "studies").mkdir()
    write(root, **{"studies/seeds": {**study, "withheld": {"far": "VQA of blind is 0.30, more than 0.25"}, "tests": 7}})
    write(root, hacking={"rl near": {"free_frame": {"applies": 7, "paper": 0.75}}})
    page = results_section(metrics)
    for line in (
        "judge exact · tasks far 3 (out domain) · tasks near 5 (in domain)",
        "| near | +0.100 [+0.050, +0.150] |",
        "## Study `seeds`",
        "corrected for the 7 tests",
        "| rl | 0.500 [0.400, 0.600] |",
        "| RL | **+0.100** [+0.050, +0.200] p .002 |",
        "No claim on far: VQA of blind is 0.30, more than 0.25.",
        "| free_frame | 7 | 0.750 |",
        "| near | full | 0.50 / 41.3 / 2.0 / 80.0 |",
        "| rl near | 7 | 0.500 |",
    ):
        assert line in page
    assert page.index("| near | blind |") < page.index("| far | blind |"), "in domain first"


def test_settings_are_told_in_words_with_what_differs_by_system():
    assert told(PROTOCOL) == {
        "judge": "exact", "skim_frames": "rl: 20; sft: 8", "tasks far": "3 (out domain)", "tasks near": "5 (in domain)",
    }  # fmt: skip


def test_the_commit_of_a_file_is_the_last_that_changed_it_and_an_edit_since_is_told(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    file = tmp_path / "seeds.json"
    assert recorded_in(file) == "not made"
    file.write_text("{}")
    assert recorded_in(file) == "unknown (no git repository)"
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    git("init")
    git(*author, "commit", "--allow-empty", "-m", "first")
    assert recorded_in(file) == "in no commit yet"
    git("add", "seeds.json")
    git(*author, "commit", "-m", "seeds")
    commit = recorded_in(file)
    assert len(commit.split(", ")) == 2 and "changed" not in commit
    (tmp_path / "other.json").write_text("{}")
    assert recorded_in(file) == commit
    file.write_text("[]")
    assert recorded_in(file) == f"{commit}, changed since in the working tree"


def test_the_terminal_shows_our_table_the_published_one_apart_and_where_the_report_is(root, capsys):
    main([str(root / "metrics" / "evaluate.json"), str(root / "report.html")])
    ours, published = capsys.readouterr().out.split("Published (7B, real videos")
    assert "| near | rl |" in ours and "MedScope-7B-RL" not in ours
    assert "MedScope-7B-RL: OphVL TG R@.3/.5/.7/mIoU 81.92/68.87/54.35/64.42" in published
    assert f"Report: {root / 'report.html'}" in published

"""The page of a notebook: what is read, what of it is left out, and that text from data stays text."""

import re
from pathlib import Path

import parts
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from medscope.pipeline.stage import attempt
from medscope.reporting import pictures
from medscope.reporting.page import export

SCRIPT = "<script>alert('1')</script>"


def written(cells, path):
    """A notebook file."""
    import nbformat

    nbformat.write(parts.new_notebook(cells=cells), path)


def page_of(tmp_path, *outputs, finished=True):
    cell = parts.new_code_cell("secret = 6 * 7", outputs=list(outputs))
    written([parts.new_markdown_cell("## Results"), cell], tmp_path / "07_report.ipynb")
    return export(tmp_path / "07_report.ipynb", finished).read_text()


def shown(function, *arguments):
    """What a notebook keeps of a call that displays HTML."""
    InteractiveShell.instance()
    with capture_output() as captured:
        function(*arguments)
    return [parts.new_output("display_data", dict(output.data)) for output in captured.outputs]


def test_a_page_has_prose_and_results_but_neither_code_nor_progress_bars_nor_scripts(tmp_path):
    bar = parts.new_output("stream", name="stderr", text="render: 50%")
    table = parts.new_output("display_data", {"text/html": "<table><tr><td>0.98</td></tr></table>"})
    page = page_of(tmp_path, bar, table, parts.new_output("stream", name="stdout", text="1,480,000 parameters"))
    assert "Results" in page and "<td>0.98</td>" in page and "1,480,000 parameters" in page
    assert "secret" not in page and "render: 50%" not in page and "<script" not in page and "://" not in page
    assert "<title>MedScope 07 report</title>" in page


def test_a_page_of_an_unfinished_notebook_keeps_code_and_all_output(tmp_path):
    """A kernel that was killed leaves no error in the notebook."""
    page = page_of(tmp_path, parts.new_output("stream", name="stderr", text="render: 50%"), finished=False)
    assert "secret" in page and "render: 50%" in page


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (pictures.table, ({SCRIPT: {"answer": 1.0}},)),
        (pictures.table, ({"task": {SCRIPT: 1.0}},)),
        (pictures.table, ({"task": {"answer": SCRIPT}},)),
        (pictures.table, ({"task": {"answer": 1.0}}, SCRIPT)),
        (pictures.settings, ({SCRIPT: SCRIPT},)),
        (pictures.show_saved, (Path(SCRIPT),)),
    ],
)
def test_a_script_in_a_label_a_cell_a_title_or_a_setting_stays_text(tmp_path, function, arguments):
    page = page_of(tmp_path, *shown(function, *arguments))
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_script_in_a_printed_turn_stays_text(tmp_path):
    page = page_of(tmp_path, parts.new_output("stream", name="stdout", text=f"<answer>{SCRIPT}</answer>"))
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_table_shows_whole_cells_three_digits_and_a_dash_for_what_is_missing(tmp_path):
    long = "a question of more than fifty characters, which pandas would cut short"
    page = page_of(
        tmp_path, *shown(pictures.table, {"a": {"text": long, "iou": 0.98765}, "b": {"count": 3, "iou": None}})
    )
    cells = [cell.partition("</td>")[0] for cell in page.split("<td>")[1:]]
    assert cells == [long, "0.988", "–", "–", "–", "3"]


def test_a_damaged_notebook_does_not_hide_the_error_of_its_stage(tmp_path):
    """A disk that fills up leaves half a notebook: the launcher gets a sentence and ends with its own error."""
    executed = tmp_path / "07_report.ipynb"
    executed.write_text('{"cells": [')
    from nbformat.reader import NotJSONError

    with pytest.raises(NotJSONError):
        export(executed, finished=False)
    problems = attempt("the page", lambda: export(executed, finished=False))
    assert len(problems) == 1 and problems[0].startswith("the page could not be written: NotJSONError")


def test_a_page_lists_its_sections_before_the_first_and_a_heading_within_data_is_none_of_them(tmp_path):
    cells = [
        parts.new_markdown_cell("# All\n\nWhat it is."),
        parts.new_markdown_cell("## One & two"),
        parts.new_markdown_cell("## Three"),
    ]
    cells.append(
        parts.new_code_cell("1", outputs=[parts.new_output("stream", name="stdout", text='<h2 id="x">no</h2>')])
    )
    written(cells, tmp_path / "07_report.ipynb")
    page = export(tmp_path / "07_report.ipynb", finished=True).read_text()
    contents = page.partition("<nav")[2].partition("</nav>")[0]
    found = re.findall(r'<a href="#([^"]+)">(.*?)</a>', contents)
    assert [text for _, text in found] == ["One &amp; two", "Three"]
    assert all(f'<h2 id="{target}">' in page for target, _ in found)
    assert page.index("What it is.") < page.index("<nav") < page.index("<h2 id=")


def test_a_browser_is_told_to_load_nothing_whatever_a_cell_holds(tmp_path):
    hostile = parts.new_output("display_data", {"text/html": "<img src='http://example.com/x.png'>"})
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page_of(tmp_path, hostile)


def test_long_names_and_intervals_may_be_broken_and_an_empty_column_is_left_out(tmp_path):
    rows = {"rl_long": {"evidence_recall": "0.50 [0.25, 0.75]", "tg": None, "x": 1.0}, "sft": {"tg": None, "x": 2.0}}
    page = page_of(tmp_path, *shown(pictures.table, rows))
    assert "<td>0.50 <small>[0.25, 0.75]</small></td>" in page
    assert "evidence_<wbr/>recall</th>" in page and "rl_<wbr/>long</th>" in page and ">tg</th>" not in page


def test_a_wide_table_becomes_several_below_each_other_and_loses_nothing(tmp_path):
    rows = {row: {f"m{n}": f"{row}{n}" for n in range(16)} for row in ("a", "b")}
    page = page_of(tmp_path, *shown(pictures.table, rows, "scores"))
    tables = [part.partition("</table>")[0] for part in page.split("<table")[1:]]
    assert [part.count("<th>m") for part in tables] == [8, 8] and page.count("scores") == 1
    cells = [re.findall(r"<td>(.*?)</td>", part) for part in tables]
    assert cells == [[f"{row}{n}" for row in "ab" for n in range(*span)] for span in ((0, 8), (8, 16))]

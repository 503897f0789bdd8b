"""The page of a notebook: what is read, and what of it is left out."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from medscope.reporting.page import export


def page_of(tmp_path, *outputs, finished=True):
    cell = new_code_cell("secret = 6 * 7", outputs=list(outputs))
    notebook = new_notebook(cells=[new_markdown_cell("## Results"), cell])
    nbformat.write(notebook, tmp_path / "06_evaluate.ipynb")
    return export(tmp_path / "06_evaluate.ipynb", finished).read_text()


def test_a_page_has_prose_and_results_but_neither_code_nor_progress_bars_nor_scripts(tmp_path):
    bar = new_output("stream", name="stderr", text="render: 50%")
    table = new_output("display_data", {"text/html": "<table><tr><td>0.98</td></tr></table>"})
    page = page_of(tmp_path, bar, table, new_output("stream", name="stdout", text="1,480,000 parameters"))
    assert "Results" in page and "<td>0.98</td>" in page and "1,480,000 parameters" in page
    assert "secret" not in page and "render: 50%" not in page and "<script" not in page and "http" not in page
    assert "<title>MedScope 06 evaluate</title>" in page


def test_a_page_of_an_unfinished_notebook_keeps_code_and_all_output(tmp_path):
    """A kernel that was killed leaves no error in the notebook."""
    page = page_of(tmp_path, new_output("stream", name="stderr", text="render: 50%"), finished=False)
    assert "secret" in page and "render: 50%" in page

"""An executed notebook as one HTML file to read offline: prose, tables and pictures; no code, scripts or downloads."""

from html import escape
from pathlib import Path

STYLE = """
body { margin: 0; background: #fafafa; color: #222; font: 15px/1.55 system-ui, sans-serif }
main { max-width: 1300px; margin: 1.5rem auto; padding: 1rem 1.4rem 3rem; background: #fff; border: 1px solid #e6e6e6 }
h1, h2 { font-weight: 600; line-height: 1.25 }
h2 { margin-top: 2.6rem; border-top: 1px solid #e6e6e6; padding-top: 1.2rem }
p { max-width: 52rem } code { background: #f1f1f1; padding: .05rem .25rem; border-radius: 3px }
table { border-collapse: collapse; font-size: 11.5px; font-variant-numeric: tabular-nums; margin: .3rem 0 1.4rem }
th, td { padding: .2rem .3rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e9e9e9 }
tbody th { text-align: left }
img { max-width: 100%; margin: .4rem 0 } pre { white-space: pre-wrap; font-size: 12.5px } .anchor-link { display: none }
.jp-OutputArea, .output { overflow-x: auto } .settings { color: #777; font-size: 12px; max-width: none }
"""


def export(executed: Path, finished: bool) -> Path:
    """Write the page beside the notebook; one that has not `finished` keeps its code and all its output.

    Raises what nbformat and the file system raise: the launcher reports it beside the stage's own error, which counts.
    """
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, as_version=4)
    for cell in notebook.cells if finished else ():
        cell.outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    exporter = HTMLExporter(
        template_name="basic",
        embed_images=True,
        exclude_input=finished,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    title = escape(executed.stem.replace("_", " "))
    page = executed.with_suffix(".html")
    page.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>MedScope {title}</title>'
        f"<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )
    return page

"""An executed notebook as one HTML file to read offline: prose, tables and pictures; no code, scripts or downloads.

Light or dark as the reader's system is; on paper it is light and lies across, because the tables are wide.
"""

import re
from html import escape
from pathlib import Path

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a browser loads nothing, whatever a cell holds
)
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"', re.DOTALL)
STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --desk: #fafafa; --line: #e2e2e2; --soft: #f1f1f1;
  --faint: #666; --link: #1a5fb4 }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #17191c; --desk: #0f1113; --line: #34383d; --soft: #26292e; --faint: #a0a4a8;
    --link: #8ab8f0 }
  img { background: #fff; padding: .5rem; border-radius: 4px; filter: brightness(.92); box-sizing: border-box } }
body { margin: 0; background: var(--desk); color: var(--ink); font: 15px/1.55 system-ui, sans-serif }
main { max-width: 1300px; margin: 1.5rem auto; padding: 1rem 1.4rem 3rem; background: var(--paper);
  border: 1px solid var(--line); box-sizing: border-box }
h1, h2 { font-weight: 600; line-height: 1.25; overflow-wrap: anywhere }
h2 { margin-top: 2.6rem; border-top: 1px solid var(--line); padding-top: 1.2rem; break-after: avoid }
a { color: var(--link) } .anchor-link { display: none }
nav { background: var(--soft); padding: .6rem 1.2rem; margin: 1.2rem 0; max-width: 50rem; box-sizing: border-box }
nav ol { margin: .3rem 0; padding-left: 1.4rem }
p { max-width: 52rem; overflow-wrap: anywhere }
code { background: var(--soft); padding: .05rem .25rem; border-radius: 3px }
table { border-collapse: collapse; font-size: 12px; line-height: 1.35; font-variant-numeric: tabular-nums;
  margin: .3rem 0 1.4rem; max-width: 100% }
th, td { padding: .25rem .3rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line) }
thead th { vertical-align: bottom } tbody th { text-align: left }
td small { color: var(--faint); font-size: 10.5px; display: block }
b:has(+ table) { display: block; break-after: avoid }
img { max-width: 100%; height: auto; margin: .4rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12.5px }
.settings { color: var(--faint); font-size: 12px; max-width: none }
@page { size: A4 landscape; margin: 12mm }
@media print {
  body, main { background: none; border: 0; margin: 0; padding: 0; max-width: none }
  h2 { margin-top: 1.6rem } table { font-size: 8.5pt } td small { font-size: 7.5pt }
  table, img, nav { break-inside: avoid } thead { display: table-header-group } img { max-height: 125mm } }
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
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>MedScope {title}</title>'
        f"<style>{STYLE}</style></head>\n<body><main>\n{with_contents(body)}\n</main></body></html>\n",
        encoding="utf-8",
    )
    return page


def with_contents(body: str) -> str:
    """The body with a list of its sections before the first one; without sections as it is."""
    found = list(HEADING.finditer(body))
    if not found:
        return body
    items = "".join(f'<li><a href="#{match[1]}">{match[2].strip()}</a></li>' for match in found)
    begin = found[0].start()
    return f'{body[:begin]}<nav aria-label="contents"><b>Contents</b><ol>{items}</ol></nav>{body[begin:]}'

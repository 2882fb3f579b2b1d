"""How the page of a report looks: light or dark as the reader has it, wide or on a telephone."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2230; --faint: #5c6677; --line: #dde2ea;
  --bar: #2f67b1; --pale: #c3d3ea; --ground: #ffffff; --soft: #f4f6fa; --mark: #e8f0fb;
  --note: #b87514; --cell: 47 103 177; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf1; --faint: #9aa5b8; --line: #333c4a;
  --bar: #74a7ec; --pale: #35496a; --ground: #13171e; --soft: #1b212b; --mark: #1d2a3f;
  --note: #e0a94a; --cell: 116 167 236; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 66rem; padding: 2.2rem 1.2rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .4rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .3rem 0; max-width: 46rem; } .faint { color: var(--faint); font-size: .875rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem;
  margin: 1.4rem 0; }
.card { background: var(--soft); border-radius: .6rem; padding: .8rem 1rem; }
.card span { display: block; color: var(--faint); font-size: .875rem; line-height: 1.35; }
.card b { display: block; font-size: 1.7rem; line-height: 1.35; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.notes { border-left: 4px solid var(--note); background: var(--soft); margin: 1.4rem 0;
  border-radius: 0 .6rem .6rem 0; padding: .7rem 1rem; }
.notes ul { margin: .2rem 0 0; padding-left: 1.1rem; } .notes li { margin: .15rem 0; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .32rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 400; } thead th { color: var(--faint); font-size: .8125rem;
  vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody th { position: sticky; left: 0; background: var(--ground); overflow-wrap: break-word;
  min-width: 3.4rem; } td { white-space: nowrap; } td.text { white-space: normal; }
th:last-child, td:last-child { padding-right: .2rem; }
td.text, th.text { text-align: left; }
.sizes { width: 100%; } .sizes tbody th { width: 45%; padding-left: .5rem; }
.sizes tr.this th, .sizes tr.this td { background: var(--mark); font-weight: 650; }
.sizes i { display: block; height: .4rem; margin: .15rem 0 .1rem; border-radius: .2rem;
  background: var(--pale); min-width: 2px; } .sizes .this i { background: var(--bar); }
.cells td { text-align: center; min-width: 2.6rem; padding: .32rem .3rem; }
.cells thead th { text-align: center; } .cells thead th:first-child { text-align: left; }
.samples { display: grid; gap: 1.2rem 1.4rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--figure)), 1fr)); }
.samples figure { margin: 0; min-width: 0; }
.row { display: flex; flex-wrap: wrap; gap: 4px; }
.row div { font-size: .75rem; color: var(--faint); line-height: 1.4; max-width: 100%; }
.row img, .row .gone { display: block; max-width: 100%; height: auto; border-radius: 2px; }
.row img.sharp { image-rendering: pixelated; }
.row .gone { border: 1px dashed var(--faint); }
figcaption { font-size: .8125rem; color: var(--faint); line-height: 1.4; }
.samples figcaption { margin-top: .15rem; overflow-wrap: anywhere; }
figcaption span { white-space: nowrap; }
.beside { display: flex; flex-wrap: wrap; gap: 0 4rem; } .beside > * { min-width: 0; }
figcaption b { color: var(--ink); font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
  gap: 1.4rem 2rem; } .plots figure { margin: 0; } .plots h3 { margin: .6rem 0 .2rem; }
.plots svg { display: block; width: 100%; height: auto; max-width: 26rem; }
svg text { fill: var(--faint); font: 11px system-ui, -apple-system, "Segoe UI", sans-serif; }
svg line { stroke: var(--line); } .a { fill: var(--bar); } .b { fill: var(--pale); }
.key { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px;
  margin: 0 .3rem 0 0; vertical-align: -1px; } .key.a { background: var(--bar); }
.key.b { background: var(--pale); margin-left: .8rem; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--faint); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 40rem) { body { padding: 1.2rem 1rem 3rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: .6rem; } .card { padding: .6rem .7rem; }
  .card b { font-size: 1.15rem; } th, td { padding-left: .4rem; padding-right: .4rem; }
  .samples figure { display: flex; flex-wrap: wrap; gap: 0 .7rem; }
  .samples figcaption { flex: 1 1 8rem; margin: 0; }
  .sizes .total { display: none; } .sizes tbody th { width: 40%; } }
@media print { h2, figure, tr { break-inside: avoid; } }
"""

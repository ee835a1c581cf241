"""The look of the page. Neutral greys, so that nothing tints the pictures; every colour of a word also has a sign and a text.

Tests hold each pair of ink and ground to WCAG AA, in light and in dark.
"""

LIGHT = """
  --page: #f3f3f2; --card: #ffffff; --sunk: #f6f6f5; --mat: #e6e6e4; --ink: #1c1c1e; --soft: #56575c; --line: #dededb; --rail: #a9a9a6;
  --accent: #2c4cb0; --bar: #5b6b9c;
  --met-ink: #14592f; --met: #e2f3e7; --met-edge: #9fcfae;
  --unmet-ink: #952019; --unmet: #fce9e7; --unmet-edge: #e5b0ab;
  --broken-ink: #ffffff; --broken: #b3261e; --broken-edge: #b3261e;
  --pending-ink: #3b4c63; --pending: #e9eef5; --pending-edge: #b7c4d6;
  --unsure-ink: #6d4700; --unsure: #fcf1d8; --unsure-edge: #dfc387;
  --error-ink: #64308a; --error: #f3eafa; --error-edge: #ccb0e0;
"""
DARK = """
  --page: #131314; --card: #1b1c1e; --sunk: #222326; --mat: #2b2c2f; --ink: #ececee; --soft: #aeb0b7; --line: #35373b; --rail: #63666d;
  --accent: #a9bcff; --bar: #8796c9;
  --met-ink: #a6e3b8; --met: #16301f; --met-edge: #2f5f41;
  --unmet-ink: #ffb4ab; --unmet: #3a1a18; --unmet-edge: #73352f;
  --broken-ink: #3a0906; --broken: #ff8a80; --broken-edge: #ff8a80;
  --pending-ink: #bccbe0; --pending: #232c39; --pending-edge: #43536a;
  --unsure-ink: #f2cf86; --unsure: #33270d; --unsure-edge: #66511f;
  --error-ink: #dcbcf5; --error: #2c1c39; --error-edge: #5c3f74;
"""

CSS = (
    ":root {"
    + LIGHT
    + "}\n@media screen and (prefers-color-scheme: dark) { :root {"
    + DARK
    + "} }"
    + """
*, ::before, ::after { box-sizing: border-box; }
html { font: 100%/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Inter, sans-serif; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere; }
main, .top, footer { max-width: 72rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
h1, h2, h3, h4, p, ul, ol, dl, dd, figure { margin: 0; }
ul, ol { padding: 0 0 0 1.2rem; }
h1 { font-size: clamp(1.5rem, 1.1rem + 1.8vw, 2.25rem); line-height: 1.22; font-weight: 650; letter-spacing: -.018em; text-wrap: balance; }
h1.long { font-size: clamp(1.25rem, 1rem + 1vw, 1.65rem); line-height: 1.3; }
h2 { font-size: 1.4rem; font-weight: 650; letter-spacing: -.012em; margin: 4rem 0 1rem; scroll-margin-top: 1rem; }
h3 { font-size: 1.06rem; font-weight: 650; }
h4, dt, .eyebrow { font-size: .78rem; font-weight: 600; color: var(--soft); letter-spacing: .015em; }
a { color: var(--accent); text-underline-offset: .18em; }
a:hover { text-decoration-thickness: 2px; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; border-radius: 4px; }
:target { scroll-margin-top: 1.5rem; }
figure:target .mat { outline: 3px solid var(--accent); }
code, .id { font-family: ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace; font-size: .86em; }
.id { color: var(--soft); }
.said { white-space: pre-wrap; }
.note, .from, figcaption, .numbers { color: var(--soft); font-size: .875rem; }
.unseen, .symbols { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: 1rem; top: -6rem; background: var(--card); padding: .7rem 1.1rem; border-radius: 8px; z-index: 2; }
.skip:focus { top: .6rem; }
.top { display: flex; flex-wrap: wrap; gap: .3rem 2rem; justify-content: space-between; align-items: baseline; padding-block: 1.4rem; }
.top ul { display: flex; gap: 1.4rem; list-style: none; padding: 0; }
.top a { display: inline-block; padding: .3rem 0; }
.brand { color: var(--soft); }
.brand strong { color: var(--ink); letter-spacing: .04em; }
footer { color: var(--soft); font-size: .875rem; padding-block: 3.5rem 3rem; }

.icon { width: 1em; height: 1em; flex: none; fill: none; stroke: currentColor; stroke-width: 1.9; stroke-linecap: round;
  stroke-linejoin: round; }
.chip { display: inline-flex; align-items: center; gap: .35em; padding: .14em .6em .14em .5em; border: 1px solid var(--line);
  border-radius: 99px;
  font-size: .8125rem; font-weight: 560; line-height: 1.45; white-space: nowrap; background: var(--sunk); color: var(--ink); }
.chip.met, .chip.chosen { color: var(--met-ink); background: var(--met); border-color: var(--met-edge); }
.chip.unmet { color: var(--unmet-ink); background: var(--unmet); border-color: var(--unmet-edge); }
.chip.broken { color: var(--broken-ink); background: var(--broken); border-color: var(--broken-edge); }
.chip.pending { color: var(--pending-ink); background: var(--pending); border-color: var(--pending-edge); }
.chip.unsure { color: var(--unsure-ink); background: var(--unsure); border-color: var(--unsure-edge); }
.chip.error { color: var(--error-ink); background: var(--error); border-color: var(--error-edge); }
.chip.back { color: var(--unmet-ink); background: transparent; border-color: var(--unmet-edge); border-style: dashed; }
.chip.star { color: var(--card); background: var(--accent); border-color: var(--accent); }
.chip.star .icon { fill: currentColor; }
.chip.big { font-size: 1rem; padding: .3em .95em .3em .8em; }

.facts { display: grid; gap: .85rem; }
.facts dt { margin-bottom: .1rem; }
.told .facts { display: flex; flex-wrap: wrap; gap: .85rem 2rem; }
.told .facts > div { flex: 0 0 100%; }
.told .facts > .short { flex: 0 1 auto; }
.row { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem .7rem; }
.plainlist { list-style: none; padding: 0; display: grid; gap: .15rem; }
details > summary { cursor: pointer; padding: .2rem 0; }
details > summary:hover { color: var(--ink); }
.more { color: var(--accent); text-decoration: underline; text-underline-offset: .18em; }
details:not([open]) > summary .open, details[open] > summary .shut { display: none; }
.missing { display: grid; align-content: center; justify-items: center; gap: .2rem; width: 100%; min-height: 9rem; padding: 1rem;
  text-align: center;
  color: var(--soft); font-size: .875rem; border: 2px dashed var(--rail); border-radius: 4px; }
.mat { background: var(--mat); border-radius: 10px; padding: clamp(.6rem, 2.4%, 1rem); display: grid; place-items: center; }
.mat img { display: block; max-width: 100%; height: auto; box-shadow: 0 1px 5px rgb(0 0 0 / .22); }
.pixels { image-rendering: pixelated; }

.hero { display: grid; grid-template-columns: minmax(0, 1.08fr) minmax(0, 1fr); gap: clamp(1.5rem, 4vw, 3.25rem); align-items: start;
  padding-top: .6rem; }
.hero .mat { padding: clamp(.9rem, 3vw, 1.6rem); border-radius: 14px; }
.hero .told { display: grid; gap: 1.1rem; }
.hero .eyebrow { margin-bottom: -.8rem; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .2rem .8rem; padding: .45rem .15rem 0; }
.warnings { margin-top: 2.5rem; padding: 1.1rem 1.4rem; border: 1px solid var(--unsure-edge); border-radius: 12px;
  background: var(--unsure);
  color: var(--unsure-ink); }
.warnings h2 { font-size: 1.06rem; margin: 0 0 .3rem; }

.scroll { position: relative; overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9375rem; }
th, td { padding: .75rem .55rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; font-weight: 400;
  white-space: nowrap; }
thead th { vertical-align: bottom; font-size: .8125rem; font-weight: 600; color: var(--soft); background: var(--sunk); }
thead small { display: block; font-size: .78rem; font-weight: 400; }
thead small.back { color: var(--unmet-ink); }
thead small.star { color: var(--accent); font-weight: 600; }
tr > :first-child { padding-left: 1.1rem; }
tbody th { min-width: 15rem; max-width: 24rem; white-space: normal; }
tbody th .facts { padding: .4rem 0; }
tbody th details { font-size: .875rem; color: var(--soft); }
tfoot th, tfoot td { border-bottom: 0; color: var(--soft); font-size: .8125rem; }
td.final, th.final { background: var(--sunk); border-inline: 1px solid var(--line); }
.scroll + .fold { margin-top: .7rem; color: var(--soft); font-size: .875rem; }
.legend { list-style: none; padding: .5rem 0; display: grid; gap: .5rem; }

.line { list-style: none; padding: 0; }
.line > li { position: relative; padding: 0 0 1.75rem 3rem; }
.line > li::before { content: ""; position: absolute; left: calc(1rem - 1px); top: 1rem; bottom: -1rem;
  border-left: 2px solid var(--rail); }
.line > li:last-child::before { display: none; }
.line > li:last-child { padding-bottom: 0; }
.line > li:has(> .branch):last-child::before { display: block; bottom: auto; height: 100%; }
.dot { position: absolute; left: 0; top: .85rem; width: 2rem; height: 2rem; border-radius: 50%; display: grid; place-items: center;
  background: var(--card); border: 2px solid var(--rail); color: var(--soft); }
.dot.met { background: var(--met); border-color: var(--met-ink); color: var(--met-ink); }
.dot.star { background: var(--accent); border-color: var(--accent); color: var(--card); }
.dot.star .icon { fill: currentColor; }
.dot.back { border-style: dashed; border-color: var(--unmet-ink); color: var(--unmet-ink); }
.begin { padding: 1.05rem 0 0; }
.branch { position: relative; margin-top: 1.1rem; }
.branch > .note { padding-bottom: .5rem; }
.branch > .line > li:first-child::after { content: ""; position: absolute; left: -2rem; top: calc(1.85rem - 1px); width: 1.9rem;
  border-top: 2px dashed var(--rail); }
.branch > .line > li::before { border-left-style: dashed; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: clamp(1rem, 2.6vw, 1.5rem); display: grid;
  gap: 1.1rem; }
.card > *, .body > *, .facts > * { min-width: 0; }
.card.star { border-color: var(--accent); }
.card.back { background: transparent; border-style: dashed; border-color: var(--rail); }
.head { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .65rem; }
.head .from { margin-left: auto; }
.tally { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .8rem; margin-top: -.55rem; font-size: .9375rem;
  color: var(--soft); }
.tally strong { color: var(--ink); font-weight: 600; }
.reason { padding-left: .9rem; border-left: 3px solid var(--rail); color: var(--soft); }
.card.back > .reason { border-color: var(--unmet-ink); color: var(--unmet-ink); }
.begin .reason { margin-top: .5rem; }
.body { display: grid; grid-template-columns: minmax(0, 26rem) minmax(16rem, 1fr); gap: 1.1rem clamp(1.2rem, 3vw, 2rem);
  align-items: start; }
.body > .told:only-child { grid-column: 1 / -1; }
.body .told { display: grid; gap: 1.1rem; }
.summary { font-size: 1.0625rem; }
.plates.grid { display: grid; grid-template-columns: 1fr 1fr; gap: .7rem; }
.chosen > .mat { box-shadow: inset 0 0 0 3px var(--met-ink); }
.thumb { display: block; }
.thumb img { display: block; width: auto; height: 3.5rem; border-radius: 3px; outline: 1px solid var(--line); }
.reference { display: inline-flex; align-items: center; gap: .6rem; }
thead .thumb { margin-bottom: .45rem; }
.placed { display: flex; align-items: center; gap: .7rem; font-size: .9375rem; }
.map { width: 2.5rem; height: 2.5rem; flex: none; }
.map .frame { fill: var(--mat); stroke: var(--rail); }
.map .inside { fill: var(--accent); }
.judged { border-top: 1px solid var(--line); padding-top: 1rem; }
.verdicts { list-style: none; padding: .5rem 0 0; display: grid; gap: .65rem; }
.verdicts > li { display: grid; grid-template-columns: 8.6rem minmax(0, 1fr) auto; gap: .1rem .8rem; align-items: start;
  justify-items: start; }
.verdicts .said { color: var(--soft); font-size: .9375rem; }
.check { display: grid; gap: .3rem; color: var(--soft); font-size: .9375rem; }
.numbers { border-top: 1px solid var(--line); padding-top: .7rem; }
.numbers .facts { padding-top: .8rem; }
.parts { list-style: none; padding: 0; display: grid; gap: .35rem; max-width: 34rem; font-size: .875rem; }
.parts > li { display: grid; grid-template-columns: minmax(4.5rem, 8rem) minmax(2rem, 1fr) 5.5rem; gap: .8rem; align-items: center; }
.amount { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: block; height: .5rem; border-radius: 99px; background: var(--mat); overflow: hidden; }
.bar > span { display: block; height: 100%; background: var(--bar); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin-bottom: .9rem; }
.tiles > div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .9rem 1.1rem 1rem; }
.tiles strong { font-size: 1.4rem; font-weight: 620; letter-spacing: -.01em; font-variant-numeric: tabular-nums; margin-right: .4rem; }
.limit { color: var(--soft); font-size: .875rem; }
.tiles .bar { margin-top: .5rem; }
.block { margin-top: 2rem; }
.block > h3 { margin-bottom: .7rem; }
@media (max-width: 56rem) { .hero, .body { grid-template-columns: minmax(0, 1fr); } .plates { max-width: 30rem; } }
@media (max-width: 40rem) {
  h2 { margin-top: 3rem; }
  .line > li { padding-left: 1.6rem; }
  .line > li::before { left: .55rem; top: 1.6rem; bottom: -1.4rem; }
  .dot { width: 1.25rem; height: 1.25rem; top: 1.3rem; border-width: 1px; font-size: .72rem; }
  .branch > .line > li:first-child::after { left: -1rem; width: 1rem; }
  .head .from { margin-left: 0; width: 100%; }
  .verdicts > li { grid-template-columns: minmax(0, 1fr) auto; }
  .verdicts > li > div { grid-row: 2; grid-column: 1 / -1; }
  tbody th { min-width: 11rem; max-width: 14rem; }
}
@media screen and (min-width: 40.01rem) { thead th:first-child, tbody th, tfoot th { position: sticky; left: 0; z-index: 1;
  background: var(--card); }
  thead th:first-child { background: var(--sunk); } }
@media print {
  :root { --page: #ffffff; }
  html { font-size: 80%; }
  .skip, nav, summary .more { display: none; }
  main, .top, footer { max-width: none; padding-inline: 0; }
  details::details-content { content-visibility: visible; block-size: auto; }
  figure, .head, .verdicts > li, .tiles > div, tr { break-inside: avoid; }
  h2, h3, .head, .tally, .card > .reason { break-after: avoid; }
  .chip, .dot, .bar > span, .mat { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .scroll { overflow: visible; border-radius: 0; }
  th, td { white-space: normal; padding: .4rem; min-width: 3.6rem; overflow-wrap: break-word; }
}
"""
)

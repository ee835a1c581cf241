"""The look of the page.

Neutral greys, so that nothing tints the pictures; light or dark as the reader's machine is set.
"""

LIGHT = "--page:#f3f3f2;--card:#fff;--sunk:#f6f6f5;--mat:#e6e6e4;--ink:#1c1c1e;--soft:#56575c;--line:#dededb;"
LIGHT += "--warn:#fcf1d8;--warn-ink:#6d4700;"
DARK = (
    "--page:#131314;--card:#1b1c1e;--sunk:#222326;--mat:#2b2c2f;--ink:#ececee;--soft:#aeb0b7;--line:#35373b;"
    "--warn:#33270d;--warn-ink:#f2cf86;"
)

CSS = (
    f":root {{ {LIGHT} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}"
    + """
*, ::before, ::after { box-sizing: border-box; }
html { font: 100%/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere; }
header, main, footer { max-width: 78rem; margin: 0 auto; padding: 1rem clamp(1rem, 4vw, 2.5rem); }
h1 { font-size: 1.8rem; line-height: 1.2; margin: .2rem 0; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p, ul { margin: .5rem 0; }
.note, .eyebrow, figcaption, small, footer, .brand { color: var(--soft); font-size: .875rem; }
.warnings { margin: 1rem 0; padding: .3rem 1.2rem .6rem; border-radius: 10px; background: var(--warn); color: var(--warn-ink); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: .55rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; font-weight: 400; }
thead th { font-size: .8125rem; font-weight: 600; color: var(--soft); background: var(--sunk); vertical-align: bottom; }
tbody th { min-width: 11rem; font-weight: 600; }
tbody th small { font-weight: 400; }
td small, th small { display: block; }
tr.printed th, tr.printed td { color: var(--soft); background: var(--sunk); font-style: italic; font-weight: 400; }
.example { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem; margin: 1rem 0; }
.said { white-space: pre-wrap; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
figure { margin: 0; min-width: 0; }
.mat { background: var(--mat); border-radius: 8px; padding: .8rem; display: grid; place-items: center; }
.mat img { display: block; max-width: 100%; height: auto; image-rendering: auto; }
.mat img.small { width: 18rem; image-rendering: pixelated; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .2rem .8rem; padding-top: .4rem; }
.plot { width: 100%; height: auto; background: #fff; border-radius: 10px; }
"""
)

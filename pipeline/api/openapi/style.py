"""How the page looks."""

CSS = """
:root { color-scheme: light dark; --line: light-dark(#ddd, #3a3a3a); --soft: light-dark(#f5f5f2, #222); }
* { box-sizing: border-box; }
body { margin: 0; display: grid; grid-template-columns: 20rem minmax(0, 1fr); font: 15px/1.5 system-ui, sans-serif; }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1rem; border-right: 1px solid var(--line); }
nav h3 { margin: 1rem 0 .2rem; text-transform: capitalize; }
nav ul { list-style: none; margin: 0; padding: 0; font-size: 13px; overflow-wrap: anywhere; }
main { padding: 1rem 2rem 6rem; max-width: 70rem; }
section { border-top: 1px solid var(--line); padding: .5rem 0 1.5rem; scroll-margin-top: 1rem; }
section:target { background: var(--soft); box-shadow: 0 0 0 .7rem var(--soft); }
a { color: light-dark(#0b57a4, #8ab8f0); text-decoration: none; }
a:hover { text-decoration: underline; }
a.anchor { color: inherit; margin-right: .6rem; }
h1 small { font-weight: normal; font-size: 1rem; }
h3 { font-size: 1rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem 1rem; overflow: auto; border-radius: 4px; white-space: pre-wrap; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: 14px; }
th { text-align: left; font-weight: 600; }
td, th { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: break-word; }
td:first-child { white-space: nowrap; }
b { font: 600 11px/1 ui-monospace, monospace; padding: .15rem .3rem; border-radius: 3px; color: #fff; }
b.GET { background: #2463a6; }
b.POST { background: #2c7a3f; }
b.DELETE { background: #ab2e2e; }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: 40vh; } main { padding: 1rem; } }
"""

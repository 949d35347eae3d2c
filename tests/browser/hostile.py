"""Answers that try to run, load, pose or leave; each would set ``window.__pwned`` or ask another host."""

from __future__ import annotations

RUN = "window.__pwned=1"
HOST = "https://evil.example"

ANSWERS: tuple[str, ...] = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</ScRiPt ><sCrIpT>{RUN}</sCrIpT>",
    f"<!--<script>--><script>{RUN}</script>",
    f"--></script><script>{RUN}</script><!--",
    f"]]></script><script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f'<img src="{HOST}/pixel.png">',
    f"<svg onload='{RUN}'><script>{RUN}</script></svg>",
    f'<svg><animate onbegin="{RUN}" attributeName=x dur=1s></svg>',
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f'<iframe src="javascript:parent.{RUN}"></iframe>',
    f"<details open ontoggle='{RUN}'>x</details>",
    f"<input autofocus onfocus='{RUN}'>",
    f'<body onload="{RUN}"><video><source onerror="{RUN}"></video>',
    f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror={RUN}&gt;">',
    f'<noscript><p title="</noscript><img src=x onerror={RUN}>">',
    f'<form action="{HOST}"><button>go</button></form><base href="{HOST}/">',
    f'<meta http-equiv="refresh" content="0;url={HOST}">',
    f'<link rel="stylesheet" href="{HOST}/x.css">',
    f'<style>body{{background:url({HOST}/bg)}}@import "{HOST}/i.css";</style>',
    '<div style="position:fixed;inset:0;background:red;z-index:9999">covered</div>',
    f"[click](javascript:{RUN})",
    f"[click](JaVaScRiPt&colon;{RUN})",
    f"[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==) ![x](data:image/svg+xml,<svg onload={RUN}>)",
    f'![pixel]({HOST}/p.png "t") ![x]({HOST}/y.png)',
    f"<{HOST}/auto> {HOST}/plain [named][n]\n\n[n]: {HOST}/ref",
    f'[a](<{HOST}" onmouseover="{RUN}>)',
    f"```html onload={RUN}\n<script>{RUN}</script>\n```",
    f"`</code><script>{RUN}</script>`",
    f"|a|b|\n|:-:|--:|\n|<script>{RUN}</script>|<img src=x onerror={RUN}>|",
    "{{ 7*7 }} {% raw %} ${7*7} #{7*7} <%= 7*7 %>",
    "\u202eevil\u202c \u2066hidden\u2069 a\u200bb \u061c \x00\x08 \ufeff",
    "\u2028window.__pwned=1\u2029",
    "> " * 400 + "deep",
    "[" * 3000 + "](" * 3000,
    "*a **b " * 2000,
    "# " + "long" * 5000,
    "",
    "   \n",
)

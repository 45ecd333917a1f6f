"""The look of the page: light and dark, from a phone to paper."""

from __future__ import annotations

import base64
import hashlib

from gymdbd.jobs.finding import Health

# Each state has a shape of its own, so that nobody has to tell colours apart.
SHAPES = {
    Health.OK: "M12 1a11 11 0 1 0 0 22 11 11 0 0 0 0-22Zm-1.6 16.2-4.6-4.6 1.7-1.7 2.9 2.9 "
    "6.1-6.1 1.7 1.7Z",
    Health.LATE: "M12 1.5.5 22h23Zm-1.3 7h2.6l-.3 6.6h-2Zm1.3 8a1.4 1.4 0 1 1 0 2.8 1.4 1.4 0 0 1 "
    "0-2.8Z",
    Health.FAILING: "M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4Zm1.3 6L7 8.7l3.3 3.3L7 15.3 8.7 "
    "17l3.3-3.3 3.3 3.3 1.7-1.7-3.3-3.3L17 8.7 15.3 7 12 10.3Z",
    Health.UNKNOWN: "M12 .5.5 12 12 23.5 23.5 12ZM8.7 9.600c0-2 1.4-3.3 3.4-3.300s3.3 1.2 "
    "3.3 3c0 2.2-2.3 2.5-2.3 4.400H11c0-2.8 2.1-3.2 2.1-4.3 0-.7-.4-1.1-1.1-1.1"
    "s-1.2.5-1.2 1.300Zm3.3 5.400a1.4 1.4 0 1 1 0 2.8 1.4 1.4 0 0 1 0-2.800Z",
}
COLOURS = {
    Health.OK: "#15734a",
    Health.LATE: "#8a5300",
    Health.FAILING: "#b3261e",
    Health.UNKNOWN: "#5d5577",
}

STYLE = """
:root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--ink:#1b222d;--soft:#586271;
--line:#dde1e7;--ok:#15734a;--ok-soft:#d8eee2;--late:#8a5300;--late-soft:#fbe9c6;
--failing:#b3261e;--failing-soft:#fae1df;--unknown:#5d5577;--unknown-soft:#e9e6f1;--curve:#2c5fa8;
--area:#dce7f6}
@media screen and (prefers-color-scheme:dark){
:root{--page:#12161c;--card:#1b2129;--ink:#e6e9ee;--soft:#a3adba;--line:#313945;--ok:#6fd3a0;
--ok-soft:#1d3f30;--late:#f1bd5c;--late-soft:#46350f;--failing:#ff9a90;--failing-soft:#50221f;
--unknown:#bfb6de;--unknown-soft:#352f49;--curve:#86b4f2;--area:#22344f}
}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:1rem/1.5 -apple-system,"Segoe UI",
Inter,Roboto,"Noto Sans","Apple SD Gothic Neo","Noto Sans KR",NanumGothic,"Malgun Gothic",
sans-serif;overflow-wrap:anywhere;-webkit-text-size-adjust:100%}
.list th,.list td,dt{overflow-wrap:break-word}
bdi{overflow-wrap:anywhere}
:lang(ko){word-break:keep-all}
header,main,footer{max-width:72rem;margin:auto;padding:0 1rem}
header{padding-top:1.5rem}
h1,h2,h3,p,dl,dd,ul,figure,table{margin:0;padding:0}
h1{font-size:clamp(1.6rem,5vw,2.4rem);line-height:1.2;font-weight:700;letter-spacing:-.015em}
h2{font-size:1.15rem;margin:2.25rem 0 .75rem}
h3{font-size:1.05rem;line-height:1.35}
ul{list-style:none}
a{color:inherit;text-underline-offset:.2em}
a:focus-visible,summary:focus-visible{outline:3px solid var(--curve);outline-offset:3px;
border-radius:4px}
time,td,dd,figure{font-variant-numeric:tabular-nums}
svg.icon{flex:none;width:1.15em;height:1.15em;fill:currentColor;vertical-align:-.2em}
.soft,.from{color:var(--soft)}
.from{font-size:.95rem;margin-bottom:.75rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.1rem}
.hero{display:grid;gap:1rem;border-left-width:8px;padding:1.25rem}
.hero h1{display:flex;gap:.6rem;align-items:center}
.hero.ok{border-left-color:var(--ok)}
.hero.late{border-left-color:var(--late)}
.hero.failing{border-left-color:var(--failing)}
.hero.unknown{border-left-color:var(--unknown)}
.ok>.icon,.badge.ok{color:var(--ok)}
.late>.icon,.badge.late{color:var(--late)}
.failing>.icon,.badge.failing{color:var(--failing)}
.unknown>.icon,.badge.unknown{color:var(--unknown)}
.written{font-size:1.25rem;line-height:1.35}
.written time{display:block;font-size:clamp(1.35rem,4.5vw,1.8rem);font-weight:650}
.until{max-width:38rem}
@media(min-width:56rem){.hero{grid-template-columns:1fr minmax(0,27rem);column-gap:2rem}
.troubles{grid-column:1/-1;grid-row:2}
}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));
align-items:start}
.grid>*,.hero>*,.head>*{min-width:0}.head>.badge{flex:none}
.head{display:flex;gap:.75rem;justify-content:space-between;align-items:start}
.badge{font-weight:600;white-space:nowrap}
.badge .icon{margin-right:.35em}
dl{display:grid;grid-template-columns:auto 1fr;gap:.15rem 1rem;margin-top:.6rem}
dt{color:var(--soft)}
.advice{border-left:4px solid;border-radius:6px;padding:.6rem .8rem;margin-top:.75rem}
.advice p+p{margin-top:.35rem}
.advice.late{background:var(--late-soft);border-color:var(--late)}
.advice.failing{background:var(--failing-soft);border-color:var(--failing)}
.advice.unknown{background:var(--unknown-soft);border-color:var(--unknown)}
.troubles li+li{margin-top:.35rem}
.parts li{padding-top:.6rem;margin-top:.6rem;border-top:1px solid var(--line)}
.weeks{width:100%;table-layout:fixed;border-spacing:2px;margin:.9rem -2px 0;font-size:.75rem;
line-height:1}
.weeks caption{text-align:left;font-size:.9rem;line-height:1.5;color:var(--soft)}
.weeks th{font-weight:400;color:var(--soft);padding:0;text-align:center;height:1.3em;
white-space:nowrap}
.weeks tr>th:first-child{width:2rem;text-align:left}
.weeks th[colspan]{text-align:left;overflow:visible}
.weeks td{height:1.55rem;padding:0;text-align:center;border-radius:4px;font-weight:700}
.good{background:var(--ok-soft);color:var(--ok)}
.mixed{background:var(--late-soft);color:var(--late)}
.bad{background:var(--failing);color:var(--card)}
.missed{background:var(--card);color:var(--late);box-shadow:inset 0 0 0 2px var(--late)}
.idle,.none{color:var(--soft);background:var(--page)}
.none{background:none;box-shadow:inset 0 0 0 1px var(--line)}
.key{display:flex;flex-wrap:wrap;gap:.35rem 1.1rem;font-size:.9rem;color:var(--soft);
margin-bottom:.75rem}
.key b{display:inline-block;vertical-align:middle;min-height:1.5rem;
width:1.5rem;line-height:1.5rem;text-align:center;border-radius:4px;
margin-right:.4em;font-size:.75rem}
details{margin-top:.6rem}
summary{cursor:pointer;color:var(--soft)}
details li{margin:.3rem 0 0 1rem}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:1rem;
margin-top:1rem}
figure svg{display:block;width:100%;height:3rem;overflow:visible}
figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 .5rem;font-size:.9rem}
figcaption b{font-weight:650}
figure p{font-size:.8rem}
.line{fill:none;stroke:var(--curve);stroke-width:2;stroke-linejoin:round;
vector-effect:non-scaling-stroke}
.area{fill:var(--area)}
.list{width:100%;border-collapse:collapse;margin-top:.6rem}
.list th{text-align:left;font-weight:400;color:var(--soft);font-size:.9rem}
.list th[scope=row]{font-size:1rem;color:inherit;white-space:nowrap}
.list th,.list td{padding:.45rem .75rem .45rem 0;vertical-align:top;
border-top:1px solid var(--line)}
.list tr:first-child th[scope=col]{border-top:0}
.list td:last-child,.list th:last-child{padding-right:0}
.size{white-space:nowrap}
footer{padding-top:2rem;padding-bottom:2.5rem;color:var(--soft);font-size:.9rem}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);
white-space:nowrap}
@media(max-width:30rem){.card{padding:1rem .9rem}.list{font-size:.9rem}
.list th[scope=row]{font-size:.9rem;white-space:normal}.list th,.list td{padding-right:.5rem}}
@media print{
:root{--page:#fff;--line:#bbb}
html{font-size:10pt}

header,main,footer{max-width:none}
.card{break-inside:avoid;border-radius:0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
h2{break-after:avoid}details::details-content{content-visibility:visible;display:block}
}
"""


def digest() -> str:
    """Return the hash by which the policy of the page allows this style and no other."""
    return base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

"""The page to look at: one HTML file that needs no other, without script.

document    the whole page, and what it says first: is all well, and when was that
jobs        the card of a job: how it is, its calendar and its curves
tables      the machines, and the newest backups
weeks       a calendar of thirteen weeks
curves      small curves, as SVG
style       the look of it all
gather      what the page shows: from the overview, the ledger and the archives
history     the days and curves of a job, from the ledger
language    its words in each language, and how that writes times and numbers
markup      HTML, made so that no text of others becomes a part of it
facts       what the page shows, as plain values
"""

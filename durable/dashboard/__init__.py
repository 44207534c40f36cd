"""The workflows of a database as one page, and the facts and drawings that the lab shares with it. Knows no Jupyter.

`snapshot` turns rows into data, `dashboard.js` draws the data. Three doors lead there: the widget of the lab,
`durable report` and `durable ui`.
"""

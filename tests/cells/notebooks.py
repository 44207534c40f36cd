"""Notebooks as people write them. `effect` marks what must not happen again once its pass is saved.

A label is the name of the cell, and the number of the pass in each loop around the effect.
"""

from __future__ import annotations

from typing import NamedTuple


class Written(NamedTuple):
    """The cells of a notebook, and an edit of a plain cell that changes what the rest makes."""

    name: str
    cells: tuple[str, ...]
    edit: tuple[str, str]


_IMPORTS = "import durable, random, numpy as np, pandas as pd\nfrom tests.cells.world import effect"


def _written(name: str, edit: tuple[str, str], *cells: str) -> Written:
    return Written(name, (_IMPORTS, *cells), edit)


NOTEBOOKS = [
    _written(
        "cleaning",
        ("ROWS = 200", "ROWS = 150"),
        "ROWS = 200",
        """%%durable load
effect("load")
df = pd.DataFrame({
    "day": pd.date_range("2024-01-01", periods=ROWS, freq="h"),
    "kind": pd.Categorical(["a", "b"] * (ROWS // 2)),
    "value": np.arange(ROWS) % 7 * 1.5,
})
df.loc[3, "value"] = np.nan
df.describe()""",
        """%%durable clean
effect("clean")
df["value"] = df["value"].fillna(df["value"].mean())
df = df[df["value"] > 1].reset_index(drop=True)
print(len(df), "rows")""",
        """%%durable group
effect("group")
by_kind = df.groupby("kind", observed=True)["value"].agg(["mean", "size"])
by_kind""",
    ),
    _written(
        "training",
        ("RATE = 0.1", "RATE = 0.2"),
        "RATE = 0.1\nnp.random.seed(7)",
        """%%durable data
effect("data")
x = np.random.rand(50, 3)
y = x @ np.array([1.0, -2.0, 0.5]) + np.random.randn(50) * 0.01""",
        """%%durable train
weights, losses = np.zeros(3), []
for epoch in durable.each(range(12), every_seconds=0):
    noise = np.random.randn(3) * 0.001
    residual = x @ weights - y
    weights -= RATE * (x.T @ residual / len(y) + noise)
    losses.append(float((residual**2).mean()))
    effect(f"train {epoch}")
    print(epoch, round(losses[-1], 6))""",
        """%%durable best
effect('best')
best = {'weights': weights, 'loss': min(losses), 'history': losses}
best['loss']""",
    ),
    _written(
        "unseeded",
        ("MANY = 8", "MANY = 6"),
        "MANY = 8",
        """%%durable draw
rng = np.random.default_rng(3)
walk, mine = [0.0], random.Random(5)
for step in durable.each(range(MANY), every_seconds=0):
    walk.append(walk[-1] + rng.normal() + mine.gauss(0, 1) + random.random())
    effect(f"draw {step}")""",
        "more = [float(rng.random()), mine.random(), random.random()]",
        "%%durable total\neffect('total')\ntotal = sum(walk)\nspread = max(walk) - min(walk)",
    ),
    _written(
        "in place",
        ("START = 1", "START = 5"),
        "START = 1",
        """%%durable make
effect('make')
table = {'rows': [START], 'notes': []}
rows, notes = table['rows'], table['notes']""",
        """%%durable grow
for number in durable.each(range(6), every_seconds=0):
    rows.append(rows[-1] * 2)
    notes.append((number, rows[-1]))
    effect(f"grow {number}")""",
        "%%durable finish\neffect('finish')\nrows.reverse()\ntable['done'] = True",
        "plain = [table['rows'] is rows, table['notes'] is notes, rows[0]]",
    ),
    _written(
        "aliases",
        ("SIZE = 4", "SIZE = 5"),
        "SIZE = 4",
        """%%durable graph
effect("graph")
nodes = [{"id": n, "next": None} for n in range(SIZE)]
for n, node in enumerate(nodes):
    node["next"] = nodes[(n + 1) % SIZE]
first, again = nodes[0], nodes""",
        """%%durable walk
here, path = first, []
for step in durable.each(range(7), every_seconds=0):
    here = here["next"]
    here["seen"] = here.get("seen", 0) + 1
    path.append(here)
    effect(f"walk {step}")
print([node["id"] for node in path])""",
        "last = nodes[-1]['next'] is first",
    ),
    _written(
        "nested",
        ("WIDTH = 4", "WIDTH = 3"),
        "WIDTH = 4\nrandom.seed(2)",
        """%%durable grid
grid, total = [], 0.0
for i in durable.each(range(3), every_seconds=0):
    row = []
    grid.append(row)
    for j in durable.each(range(WIDTH), every_seconds=0):
        row.append(random.random())
        total += row[-1]
        effect(f"grid {i} {j}")
        if j == 2 and i == 1:
            break
    print("row", i, len(row))""",
        "%%durable flat\neffect('flat')\nflat = [value for row in grid for value in row]",
    ),
    _written(
        "scraping",
        ("PAGES = 6", "PAGES = 5"),
        "PAGES = 6",
        """%%durable scrape
def fetch(page):
    effect(f"scrape item {page}")
    return {"page": page, "links": [page * 2, page * 3], "text": "word " * page}
pages = durable.map(fetch, range(PAGES), max_concurrent=3)
print(len(pages), "pages")""",
        """%%durable index
index = {}
for page in durable.each(pages, every_seconds=0):
    for link in page["links"]:
        index.setdefault(link, []).append(page)
    effect(f"index {page['page']}")
sorted(index)""",
        "same = [found[0] is pages[found[0]['page']] for found in index.values()]",
    ),
    _written(
        "classes",
        ("DECAY = 0.9", "DECAY = 0.8"),
        """from dataclasses import dataclass, field
DECAY = 0.9
@dataclass
class Account:
    owner: str
    cents: int = 0
    entries: list = field(default_factory=list)
class Bank:
    def __init__(self):
        self.accounts, self.log = {}, []
    def pay(self, owner, cents):
        account = self.accounts.setdefault(owner, Account(owner))
        account.cents = int(account.cents * DECAY) + cents
        account.entries.append(cents)
        self.log.append(account)""",
        """%%durable bank
bank = Bank()
for day in durable.each(range(6), every_seconds=0):
    bank.pay("jane" if day % 2 else "joe", 100 + day)
    effect(f"bank {day}")""",
        """%%durable richest
effect('richest')
richest = max(bank.accounts.values(), key=lambda one: one.cents)
richest.owner""",
        "held = [richest is bank.accounts[richest.owner], len(bank.log), type(richest) is Account]",
    ),
    _written(
        "async",
        ("CALLS = 5", "CALLS = 4"),
        "import asyncio\nCALLS = 5",
        """%%durable ask
async def model(prompt):
    await asyncio.sleep(0)
    return prompt.upper()
answers = []
for number in durable.each(range(CALLS), every_seconds=0):
    answers += await asyncio.gather(model(f"a{number}"), model(f"b{number}"))
    effect(f"ask {number}")
    print(answers[-2:])
len(answers)""",
        "%%durable joined\neffect('joined')\njoined = ' '.join(answers)",
    ),
    _written(
        "two loops",
        ("FACTOR = 3", "FACTOR = 2"),
        "FACTOR = 3\nnp.random.seed(1)",
        """%%durable prepare
parts = []
for number in durable.each(range(5), every_seconds=0):
    parts.append(np.random.rand(4) * FACTOR)
    effect(f"prepare {number}")
middle = np.mean(parts, axis=0)
print("middle", middle.round(3))""",
        """%%durable fit
try:
    for number in durable.each(range(4), every_seconds=0):
        middle = middle * 0.5
        effect(f"fit {number}")
        if number == 2:
            raise ArithmeticError("enough")
except ArithmeticError as error:
    reason = str(error)
frame = pd.DataFrame({"middle": middle, "n": range(4)})
frame.plot is not None
frame""",
    ),
    _written(
        "fitted",
        ("ALPHA = 0.001", "ALPHA = 0.01"),
        "from sklearn.linear_model import SGDClassifier\nALPHA = 0.001",
        """%%durable samples
effect("samples")
x = np.random.default_rng(0).normal(size=(400, 5))
y = (x @ [1.0, -1.0, 2.0, 0.0, 0.5] + np.random.randn(400) > 0).astype(int)""",
        """%%durable learn --pickle model
chance, scores = np.random.RandomState(3), []
model = SGDClassifier(alpha=ALPHA, random_state=chance)
for epoch in durable.each(range(8), every_seconds=0):
    model.partial_fit(x, y, classes=[0, 1])
    scores.append(float(model.score(x, y)))
    effect(f"learn {epoch}")
    print("epoch", epoch, scores[-1])
type(model).__name__""",
        """%%durable predict
effect("predict")
predicted = model.predict(x)
table = pd.crosstab(y, predicted)
table""",
        "fitted = [model.coef_.tolist(), model.random_state is chance, float(chance.rand())]",
    ),
    _written(
        "large",
        ("SCALE = 1.5", "SCALE = 2.5"),
        "SCALE = 1.5\nROWS = 200_000",
        """%%durable read
effect("read")
big = pd.DataFrame({
    "key": np.arange(ROWS) % 97,
    "value": np.random.default_rng(1).normal(size=ROWS) * SCALE,
    "kind": pd.Categorical.from_codes(np.arange(ROWS) % 3, ["a", "b", "c"]),
})
print(big.memory_usage(deep=True).sum() // 1_000_000, "MB")
big.head()""",
        """%%durable smooth
window = big["value"].to_numpy().copy()
for number in durable.each(range(4), every_seconds=0):
    window = (window + np.roll(window, 1)) / 2
    effect(f"smooth {number}")""",
        "%%durable mark\neffect('mark')\nbig['smooth'] = window\nbig.loc[::2, 'key'] += 1",
        "held = [float(big['smooth'].sum()), float(window.sum()), len(big)]",
    ),
    _written(
        "plots",
        ("POINTS = 20", "POINTS = 30"),
        "import matplotlib.pyplot as plt\n%matplotlib inline\nPOINTS = 20",
        """%%durable line --drop figure,axes
effect("line")
figure, axes = plt.subplots(figsize=(2, 2))
values = np.random.rand(POINTS)
axes.plot(values);""",
        """%%durable bars
heights = {}
for number in durable.each(range(4), every_seconds=0):
    heights[f"bar {number}"] = float(values[number :: 4].sum())
    plt.figure(figsize=(2, 2))
    plt.bar(list(heights), list(heights.values()))
    plt.title(f"after {number}")
    plt.show()
    effect(f"bars {number}")
    print("drawn", number)""",
        "%%durable highest\neffect('highest')\nhighest = max(heights, key=heights.get)\nhighest",
    ),
]

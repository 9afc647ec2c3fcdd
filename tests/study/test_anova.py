"""Variance shares against planted effects: no bias, no share for what is not there, intervals that hold the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from netweight.errors import DataError
from netweight.study import anova
from netweight.study._anova import MISSING, WHOLE

FACTORS = ("net", "scale", "recipe")
LEVELS = {"net": ("cnn", "vit", "swin", "depth"), "scale": ("small", "large"), "recipe": ("r1", "r2", "r3")}
NET = np.array([1.0, -0.5, 0.0, -0.5])
SCALE = np.array([0.4, -0.4])
BOTH = np.array([[0.3, -0.3], [-0.3, 0.3], [0.3, -0.3], [-0.3, 0.3]])
GONE = (5, 40, 41, 42, 60)  # runs that are missing
PLANTED = {("net",): 0.375, ("scale",): 0.16, ("net", "scale"): 0.09}  # mean squares of the three


def table(seeds: int, noise: float, rng: np.random.Generator, *, shift: float = 0.0, base: float = 0.0):
    """Runs of the whole grid. Cells of one seed share a shift, those of a seed, net and scale one more, as runs that are held against
    the same run of a baseline do. Recipes do nothing."""
    shifts = rng.normal(0, shift, seeds) if shift else np.zeros(seeds)
    bases = rng.normal(0, base, (4, 2, seeds)) if base else np.zeros((4, 2, seeds))
    rows = []
    for (i, net), (j, scale), recipe in itertools.product(
        enumerate(LEVELS["net"]), enumerate(LEVELS["scale"]), LEVELS["recipe"]
    ):
        for seed in range(seeds):
            value = 2 + NET[i] + SCALE[j] + BOTH[i, j] + shifts[seed] + bases[i, j, seed] + rng.normal(0, noise)
            rows.append({"net": net, "scale": scale, "recipe": recipe, "seed": seed, "lost": value})
    return rows


def shares(noise: float, shift: float = 0.0, base: float = 0.0):
    variance = PLANTED | {(): noise**2 + shift**2 + base**2}
    return {u: v / sum(variance.values()) for u, v in variance.items()}


def shared(rows):
    return anova(rows, factors=FACTORS, value="lost", replicate="seed")


def test_without_noise_the_planted_shares_come_back():
    found = shared(table(2, 0.0, np.random.default_rng(0)))
    for part in found.parts:
        assert part.share == pytest.approx(shares(0.0).get(part.factors, 0.0), abs=1e-12)
    assert (found.runs, found.cells, found.missing, found.replicates, found.method) == (48, 24, 0, 2, WHOLE)
    assert found.part("scale", "net").name == "net x scale"


def test_mean_squares_are_those_of_the_definition():
    """Against loops over all cells and pairs of different seeds."""
    rows = table(3, 0.7, np.random.default_rng(1))
    found = shared(rows)
    y = {(r["net"], r["scale"], r["recipe"], r["seed"]): r["lost"] for r in rows}

    def mean(seed, **at):
        return np.mean(
            [v for k, v in y.items() if k[3] == seed and all(k[FACTORS.index(f)] == x for f, x in at.items())]
        )

    def effect(seed, net, scale):
        return mean(seed, net=net, scale=scale) - mean(seed, net=net) - mean(seed, scale=scale) + mean(seed)

    products = [
        effect(a, net, scale) * effect(b, net, scale)
        for a, b in itertools.permutations(range(3), 2)
        for net in LEVELS["net"]
        for scale in LEVELS["scale"]
    ]
    assert found.part("net", "scale").variance == pytest.approx(np.mean(products), rel=1e-9)
    cells = list(itertools.product(*LEVELS.values()))
    within = np.mean([np.var([y[(*cell, s)] for s in range(3)], ddof=1) for cell in cells])
    assert found.part().variance == pytest.approx(within, rel=1e-12)


def by_projections(rows):
    """Components by loops over pairs of runs of cells that have several, and projections on indicators."""
    all_runs = {(tuple(row[name] for name in FACTORS), row["seed"]): row["lost"] for row in rows}
    runs = {key: value for key, value in all_runs.items() if sum(cell == key[0] for cell, _ in all_runs) > 1}
    cells, seeds = (sorted({key[i] for key in runs}) for i in (0, 1))
    # shifts of seeds by going to and fro between the means of cells and of seeds until nothing moves
    shift, level = dict.fromkeys(seeds, 0.0), dict.fromkeys(cells, 0.0)
    for _ in range(300):
        level = {c: np.mean([v - shift[s] for (d, s), v in runs.items() if d == c]) for c in cells}
        shift = {s: np.mean([v - level[c] for (c, t), v in runs.items() if t == s]) for s in seeds}
        middle = np.mean(list(shift.values()))
        shift = {s: value - middle for s, value in shift.items()}
    middle = np.mean(list(level.values()))
    y = {(c, s): v - shift[s] - middle for (c, s), v in runs.items()}
    products = np.zeros((len(cells), len(cells)))
    for (i, c), (j, d) in itertools.product(enumerate(cells), repeat=2):
        of_both = [y[c, s] * y[d, t] for s in seeds for t in seeds if s != t and (c, s) in y and (d, t) in y]
        products[i, j] = np.mean(of_both)

    def left(*sets):
        """The residual's projection: onto what is orthogonal to the indicators of these sets of factors."""
        columns = [np.ones((len(cells), 1))]
        for names in sets:
            keys = [tuple(cell[FACTORS.index(name)] for name in names) for cell in cells]
            columns.append(np.array([[float(key == level) for level in sorted(set(keys))] for key in keys]))
        design = np.concatenate(columns, 1)
        return np.eye(len(cells)) - design @ np.linalg.pinv(design, rcond=1e-10)

    found = {}
    for size in range(1, 4):
        for u in itertools.combinations(FACTORS, size):
            rest = [v for k in range(1, 4) for v in itertools.combinations(FACTORS, k) if not set(u) <= set(v)]
            step = left(*rest) - left(*rest, u)
            levels = list(itertools.product(*(LEVELS[name] for name in u)))
            of = np.array([[float(tuple(c[FACTORS.index(n)] for n in u) == level) for level in levels] for c in cells])
            unit = np.trace(of.T @ step @ of) / np.prod([1 - 1 / len(LEVELS[n]) for n in u])
            found[u] = (step * products).sum() / unit
    within = [np.var([y[c, s] + shift[s] for s in seeds if (c, s) in y], ddof=1) for c in cells]
    return found | {(): np.mean(within)}


@pytest.mark.parametrize("base", [0.0, 1.0])
@pytest.mark.parametrize("way", ["whole", "missing"])
def test_components_are_unbiased_and_pure_noise_has_no_share(way, base):
    """300 studies; the mean of an unbiased estimate lies within 4.5 standard errors of the truth. Squares of estimated
    effects would give the recipe, which does nothing, 2 / 72 of the noise: 0.028, far outside."""
    rng = np.random.default_rng(2)
    found: dict[tuple[str, ...], list[float]] = {}
    for _ in range(300 if way == "whole" else 150):
        rows = table(3, 1.0, rng, shift=0.5, base=base)
        if way == "missing":
            rows = [row for n, row in enumerate(rows) if n not in GONE]
        for part in shared(rows).parts:
            found.setdefault(part.factors, []).append(part.variance)
    truth = PLANTED | {("recipe",): 0.0, ("net", "recipe"): 0.0, (): 1.25 + base**2}
    for u, want in truth.items():
        values = np.array(found[u])
        assert abs(values.mean() - want) < 4.5 * values.std() / np.sqrt(len(values)), u
    assert abs(np.mean(found["recipe",])) < 0.014


@pytest.mark.parametrize(
    "seeds, base, gone", [(3, 0.0, ()), (5, 0.0, ()), (3, 0.7, ()), (3, 0.7, (7,)), (5, 0.7, GONE)]
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds, base, gone):
    """200 studies: .95 has a standard deviation of .015. What is at its bound, 0, is held more often."""
    rng, hits = np.random.default_rng(seeds), {}
    want = shares(0.7, 0.5, base) | {("recipe",): 0.0}
    for _ in range(200):
        found = shared([row for n, row in enumerate(table(seeds, 0.7, rng, shift=0.5, base=base)) if n not in gone])
        for u, share in want.items():
            part = found.part(*u)
            hits[u] = hits.get(u, 0) + (part.low - 1e-12 <= share <= part.high + 1e-12)
    for u, count in hits.items():
        assert 0.89 <= count / 200 <= (1.0 if u in (("recipe",), ()) else 0.995), (u, count)


@pytest.mark.parametrize("left_out", [(), GONE, tuple(range(0, 72, 7))])
def test_components_are_those_that_projections_give(left_out):
    rng = np.random.default_rng(4)
    rows = [row for n, row in enumerate(table(3, 0.7, rng, shift=0.5, base=0.4)) if n not in left_out]
    found = {part.factors: part.variance for part in shared(rows).parts}
    assert found == pytest.approx(by_projections(rows), rel=1e-9, abs=1e-12) and len(found) == 8


def test_missing_runs_are_counted_and_said():
    rows = [row for n, row in enumerate(table(3, 0.1, np.random.default_rng(5))) if n % 11]
    rows[3] = rows[3] | {"lost": None}  # a failed run
    found = shared(rows)
    assert found.method == MISSING and found.missing == 72 - len(rows) + 1 and found.runs == len(rows) - 1
    assert found.part("net").share == pytest.approx(shares(0.1)["net",], abs=0.05)
    assert f"{found.missing} runs are missing; shares are from" in " ".join(found.words().split())


def test_words_say_what_is_settled_and_what_is_not():
    clear = shared(table(5, 0.1, np.random.default_rng(6)))
    assert "net matters most." in " ".join(clear.words().split())
    noisy = shared(table(3, 3.0, np.random.default_rng(6)))
    assert "is not told from none: 3 seeds do not settle it" in " ".join(noisy.words().split())
    assert "so that these are more than 100% together" in " ".join(noisy.words().split())
    assert "no intervals" in " ".join(shared(table(2, 0.1, np.random.default_rng(6))).words().split())
    assert all(len(line) <= 80 for found in (clear, noisy) for line in found.words().splitlines())


def small(value, seeds=3, rows=(0, 1), columns=(0, 1)):
    return [
        {"net": f"n{i}", "recipe": f"r{j}", "seed": s, "lost": value(i, j, s)}
        for i, j, s in itertools.product(rows, columns, range(seeds))
    ]


def test_one_factor_that_does_nothing_does_not_matter_most():
    """Of 40 studies of pure noise hardly one tells it from none; one that does something is told, and is held against the seed."""
    rng, told = np.random.default_rng(0), 0
    for _ in range(40):
        found = anova(
            small(lambda *_: rng.normal(), rows=(0,), columns=range(4)),
            factors=("recipe",),
            value="lost",
            replicate="seed",
        )
        told += "matters" in found.words()
    assert told <= 5  # 2 % of intervals leave 0 out below; 4 standard deviations
    by_recipe = small(lambda i, j, s: j + 0.1 * rng.normal(), rows=(0,), columns=range(4))
    assert "recipe matters." in anova(by_recipe, factors=("recipe",), value="lost", replicate="seed").words()
    seeds = small(lambda i, j, s: 0.3 * j + 5 * ((s * 7 + j * 3) % 5 - 2) / 2, 12, rows=(0,), columns=range(4))
    found = anova(seeds, factors=("recipe",), value="lost", replicate="seed")
    assert "recipe matters." not in found.words() and found.part().share > found.part("recipe").share


def test_what_cells_do_not_tell_from_other_effects_is_not_said_to_be_nothing():
    means = np.array([[0.0, 1.0], [1.0, 8.0]])
    rows = small(lambda i, j, s: means[i, j] + 0.1 * ((i + 2 * j + s) % 3))
    whole = anova(rows, factors=("net", "recipe"), value="lost", replicate="seed")
    assert whole.part("net", "recipe").share > 0.1
    for left in (
        [row for row in rows if (row["net"], row["recipe"]) != ("n1", "r1")],
        [row for row in rows if (row["net"], row["recipe"]) != ("n1", "r1") or row["seed"] == 0],
    ):
        found = anova(left, factors=("net", "recipe"), value="lost", replicate="seed")
        part = found.part("net", "recipe")
        assert part.share is part.variance is part.low is part.high is None
        assert "do not tell net x recipe from other effects" in " ".join(found.words().split())
        assert sum(one.share for one in found.parts if one.share is not None) == pytest.approx(1, abs=0.2)


def test_intervals_are_not_given_where_leaving_out_a_seed_takes_an_effect_away():
    rows = small(lambda i, j, s: i + j + 0.1 * ((i + 2 * j + s) % 3), columns=(0, 1, 2))
    gone = {("n0", "r0", 0), ("n1", "r2", 1), ("n0", "r1", 2)}
    found = anova(
        [row for row in rows if (row["net"], row["recipe"], row["seed"]) not in gone],
        factors=("net", "recipe"),
        value="lost",
        replicate="seed",
    )
    part = found.part("net", "recipe")
    assert part.share is not None and part.low is part.high is None
    assert all(
        one.low is not None for one in anova(rows, factors=("net", "recipe"), value="lost", replicate="seed").parts
    )


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda rows: [row for row in rows if row["scale"] == "small"], "factor 'scale' has 1 levels"),
        (lambda rows: [row for row in rows if row["seed"] == 0], "one seed cannot tell"),
        (lambda rows: rows + rows[:1], "two rows are of"),
        (lambda rows: [{**row, "lost": 1.0} for row in rows], "does not vary"),
        (lambda rows: [{k: v for k, v in row.items() if k != "net"} for row in rows], "has no 'net'"),
        (lambda rows: [row for n, row in enumerate(rows) if n % 3 == (n // 3) % 2], "nothing to know the noise from"),
    ],
)
def test_tables_without_an_answer_are_refused(change, said):
    with pytest.raises(DataError, match=said):
        shared(change(table(3, 0.5, np.random.default_rng(7))))

"""Validation loss against peak learning rate: what `derived_learning_rate` rests on.

Each run trains a fresh adapter with the settings of a study and one learning rate; one line for each run, then the best rate
for each seed. Everything but the rate is that of `fettle study EXAMPLES`.

    .venv/bin/python benchmarks/learning_rate.py example:routing --rates 1e-4 2.5e-4 5.5e-4 1e-3 2e-3 --seeds 0 1
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from fettle.examples.split import SplitSizes
from fettle.study.planning import plan_study
from fettle.study.settings import StudySettings
from fettle.training.loop import train


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", type=Path, help="as for fettle study")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 2.5e-4, 5.5e-4, 1e-3, 2e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--train-size", type=int)
    parser.add_argument("--valid-size", type=int)
    return parser.parse_args()


def main() -> None:
    """Run the sweep."""
    arguments = parse_arguments()
    sizes = SplitSizes(train=arguments.train_size, valid=arguments.valid_size)
    plan = plan_study(StudySettings(examples=arguments.examples, sizes=sizes))
    best: dict[int, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in arguments.seeds:
            for rate in arguments.rates:
                settings = replace(plan.settings.training, learning_rate=rate, epochs=arguments.epochs, seed=seed)
                started = time.perf_counter()
                result = train(
                    plan.loaded,
                    plan.tokens.train,
                    plan.tokens.valid,
                    settings,
                    folder=Path(temporary) / f"{seed}-{rate}",
                    run_key="sweep",
                )
                losses = [p.valid_loss for p in result.loss_points if p.valid_loss is not None and p.step > 0]
                best[seed] = min(best.get(seed, (float("inf"), 0.0)), (min(losses), rate))
                line = {"rate": rate, "seed": seed, "best loss": round(min(losses), 4), "last": round(losses[-1], 4)}
                line |= {"best step": result.best_step, "steps": result.num_steps}
                print(json.dumps(line | {"seconds": round(time.perf_counter() - started)}), flush=True)
    print(json.dumps({"best rate by seed": {seed: rate for seed, (_, rate) in best.items()}}))


if __name__ == "__main__":
    main()

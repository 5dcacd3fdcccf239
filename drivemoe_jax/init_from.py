"""What a run begins with: fresh parameters, or another run's or a file's.

`source` looks at where they come from before any data is read, `state` takes
them from there; between the two the source is opened once.
"""

import jax

from data_pipeline import errors
from drivemoe_jax import sharding
from drivemoe_jax import step as steps
from drivemoe_jax.weights import blocks, read, sources


def source(config):
  """The opened `init_from`, a sources.Source, or None where it is not set.

  Raises:
    ConfigError: a second stage that does not say where it starts; broken
      patterns.
    CheckpointError: no such source, or of another stage, horizon or history.
  """
  if config.stage == 2 and not config.init_from:
    raise errors.ConfigError(
        "stage 2 starts from stage 1: set --config.init_from=WORKDIR")
  read.Allowed(config.init_missing, config.init_extra)  # or it tells now
  if not config.init_from:
    return None
  return sources.open_checked(
      config.init_from, stage=config.stage, horizon=config.model.horizon,
      history=config.model.history)


def state(config, model, shapes, tx, mesh, opened, say):
  """Fresh state, or one whose parameters start from a source.

  Args:
    config: see configs/common.py. model, tx: as built from it.
    shapes: of the model's parameters. mesh: where they go.
    opened: as from `source`. say: prints a line of progress.

  Returns:
    (step.TrainState, tree of carried weights).

  Raises:
    CheckpointError: the source does not fit the model.
  """
  if opened is None:
    return steps.init_state(model, tx, mesh, config.seed), {}
  where = sharding.infer(shapes, mesh)
  found = sources.load(opened, shapes, where, missing=config.init_missing,
                       extra=config.init_extra)
  say(f"init: parameters of {found.source}")
  for line in sources.summary(found, shapes):
    say(line)
  params = blocks.flatten(found.params)
  if found.fresh:
    places = blocks.flatten(where)
    make = steps.jit_once(
        lambda key: {path: value for path, value in blocks.flatten(
            steps.init_params(model, key)).items() if path in found.fresh},
        out_shardings={path: places[path] for path in found.fresh})
    with sharding.activate(mesh):
      params |= make(jax.random.key(config.seed))
  return (steps.state_from(blocks.unflatten(params), tx, mesh),
          blocks.unflatten(found.carried))

"""Whether what a checkpoint holds is what a run needs, array by array."""

import jax

from data_pipeline import errors


def compare(place, have, want):
  """Refuses arrays of other paths, shapes or types.

  Args:
    place: of what was found. have, want: {path: (shape, type)} of what was
      found and of what this run needs.

  Raises:
    CheckpointError: with numbers, and the first that differs.
  """
  missing = sorted(want.keys() - have.keys())
  extra = sorted(have.keys() - want.keys())
  differ = sorted(n for n in want.keys() & have.keys() if want[n] != have[n])
  if not missing + extra + differ:
    return
  first = (missing + differ + extra)[0]
  raise errors.CheckpointError(
      f"{place}: {len(missing)} of {len(want)} arrays missing, {len(differ)} "
      f"of another shape or type, {len(extra)} unknown. First: {first}, "
      f"checkpoint {have.get(first, 'nothing')}, this run "
      f"{want.get(first, 'nothing')}; use the config that the checkpoint was "
      "trained with")


def flat(tree):
  """{"a/b": (shape, type)} of a tree of arrays or shapes."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path, simple=True, separator="/"):
          (tuple(x.shape), str(x.dtype)) for path, x in leaves}

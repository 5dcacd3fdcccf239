"""Drives many episodes, in this process or in several, and resumes.

  FOLDER/plan.json              what drove, so that nothing else is mixed in
  FOLDER/<number>_<type>/...    one drive each, see miniworld.episode
  FOLDER/results.json           all of them as a Bench2Drive result file

Results do not depend on the number of processes. Finished drives are never
driven again.
"""

import json
import os

from data_pipeline import errors, writing
from data_pipeline.miniworld import episode, names, pool

FORMAT = 2           # one more whenever the same driver drives otherwise
TRIES = 3            # of an episode whose process dies


def episodes(count=None, kinds=None, first_seed=names.FIRST_TEST_SEED):
  """[(type, seed)]: every type of a seed, then the next seed.

  Args:
    count: how many; None is ten seeds. kinds: types; None is all.
    first_seed: a test seed.

  Raises:
    ConfigError: an unknown type, no episode, or a seed of the training's.
  """
  kinds = tuple(dict.fromkeys(kinds or names.TYPES))
  for kind in kinds:
    if kind not in names.SKILLS:
      raise errors.ConfigError(
          f"unknown scenario {kind!r}; known: {', '.join(names.TYPES)}")
  count = 10 * len(kinds) if count is None else count
  if count < 1:
    raise errors.ConfigError(f"{count} episodes: ask for one or more")
  last = first_seed + (count - 1) // len(kinds)
  if not names.FIRST_TEST_SEED <= first_seed or last > names.LAST_SEED:
    raise errors.ConfigError(
        f"seeds {first_seed} to {last} are not all test seeds; those are "
        f"{names.FIRST_TEST_SEED} to {names.LAST_SEED}, the others train")
  return [(kinds[i % len(kinds)], first_seed + i // len(kinds))
          for i in range(count)]


def run(folder, identity, wanted, drive_all, progress=None):
  """Completes a folder of drives and writes results.json.

  Args:
    folder: to write; it may hold finished drives of the same identity.
    identity: dict of what decides the bytes: driver, image size, ...
    wanted: [(type, seed)], as from episodes().
    drive_all: [(type, seed)] -> iterator that has each driven and written.
    progress: called with (done, total, name).

  Returns:
    the records, in the order of `wanted`.

  Raises:
    DataError: the folder holds the drives of another identity.
  """
  _claim(folder, {"format": FORMAT, **identity})
  left = [(kind, seed) for kind, seed in wanted
          if not os.path.isdir(episode.path(folder, kind, seed))]
  done = len(wanted) - len(left)
  for kind, seed in drive_all(left):
    done += 1
    if progress:
      progress(done, len(wanted), f"{kind} {seed}")
  records = [_read(os.path.join(episode.path(folder, kind, seed),
                                "record.json")) for kind, seed in wanted]
  _write(os.path.join(folder, "results.json"), {"_checkpoint": {
      "progress": [len(records), len(records)],
      "records": [{"index": i, **r} for i, r in enumerate(records)]}})
  return records


def here(folder, make, size, until_fault=False):
  """drive_all for run(): one after the other, in this process.

  Args:
    make, size, until_fault: see episode.drive.
  """
  def drive_all(wanted):
    for kind, seed in wanted:
      episode.write(folder, episode.drive(
          kind, seed, make, size, until_fault=until_fault))
      yield kind, seed
  return drive_all


def in_children(folder, job, workers, module):
  """drive_all for run(): by child processes.

  Args:
    job: what `module` has to know besides folder, kind and seed.
    module: the children's program: a JSON job a line on standard input, a
      pool.PREFIX line with {} or {"error": [class of errors, text]} for each.
  """
  def drive_all(wanted):
    jobs = [{"folder": folder, "kind": kind, "seed": seed, **job}
            for kind, seed in wanted]
    if not jobs:
      return
    try:
      for done, answer in pool.run(jobs, workers, module, TRIES):  # pyright: ignore[reportGeneralTypeIssues]
        trouble = json.loads(answer).get("error")
        if trouble:
          raise getattr(errors, trouble[0])(trouble[1])
        yield done["kind"], done["seed"]
    except pool.Died as error:
      raise errors.PeerError(
          f"{error}, {TRIES} times; finished drives are kept: run again"
          ) from None
  return drive_all


def _claim(folder, plan):
  path = os.path.join(folder, "plan.json")
  plan = json.loads(json.dumps(plan))
  if os.path.exists(path):
    known = _read(path)
    if known != plan:
      raise errors.DataError(
          f"{folder} holds drives of another kind "
          f"({errors.differing(known, plan)}); move it away")
    return
  if os.path.isdir(folder) and (
      set(os.listdir(folder)) - {os.path.basename(path) + writing.PART}):
    raise errors.DataError(f"{folder} is not empty and holds no drives; move "
                           "it away")
  _write(path, plan)


def _read(path):
  with open(path, encoding="utf-8") as file:
    return json.load(file)


def _write(path, value):
  writing.put(path, json.dumps(value, indent=1))

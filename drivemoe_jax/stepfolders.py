"""Step folders on disk: which are finished, which stay, what a crash left.

A step lists its files before it gets its name, and is finished while all of
them are there in full size: a copy that lacks some is never taken for a step.
Steps of earlier versions have no list; they count by Orbax's own mark. Needs
neither jax nor Orbax. Written for one machine's or a shared POSIX folder.
"""

import dataclasses
import json
import os
import shutil

from data_pipeline import errors, reading, schema

LIST = "files.json"
FORMAT = 1
SCHEMA = {  # of a step's meta; a step need not tell any of it
    "config": schema.Maybe(schema.Each(lambda value: True)),
    "data": schema.Maybe(schema.Each(str)),
    "saved_on": schema.Maybe(schema.Each(schema.count)),
    "score": schema.Maybe(schema.Each(schema.number)),
    "step": schema.Maybe(schema.count), "seed": schema.Maybe(int),
    "next_sample": schema.Maybe(schema.count), "stage": schema.Maybe(int),
    "healthy": schema.Maybe(bool), "listed": schema.Maybe(bool),
    "changes": schema.Maybe([{
        "step": schema.count, "key": str, "from": lambda value: True,
        "to": lambda value: True}])}
META = os.path.join("meta", "metadata")
MARK, HEADER = "commit_success.txt", "_CHECKPOINT_METADATA"  # Orbax's
TRASH, JOURNAL, ASIDE = ".deleted", ".saving", "unfinished-"


@dataclasses.dataclass(frozen=True)
class Found:
  """A folder among the checkpoints.

  Attributes:
    step: its number, None for what does not bear one. fault: why it is no
      finished step, None if it is. meta: its JSON object, {} if unreadable.
  """

  name: str
  path: str
  step: int | None
  fault: str | None
  meta: dict


def scan(folder):
  """[Found] of everything in a checkpoints folder, by step and name."""
  found = []
  for name in os.listdir(folder) if os.path.isdir(folder) else ():
    path = os.path.join(folder, name)
    if name.startswith(".") or not os.path.isdir(path):
      continue
    if name.isdigit():
      found.append(Found(name, path, int(name), fault(path), _meta(path)))
    else:
      why = ("set aside, as another save needed its name"
             if name.startswith(ASIDE) else "a save that did not end")
      found.append(Found(name, path, None, why, {}))
  return sorted(found, key=lambda f: (f.step is None, f.step, f.name))


def finished(folder, known=()):
  """{step: meta} of the finished steps, oldest first.

  Args:
    known: such a dict of before; those steps are not looked at again.
  """
  steps = {}
  for name in os.listdir(folder) if os.path.isdir(folder) else ():
    path = os.path.join(folder, name)
    if name.isdigit() and int(name) in known:
      steps[int(name)] = known[int(name)]
    elif name.isdigit() and not fault(path):
      steps[int(name)] = _meta(path)
  return dict(sorted(steps.items()))


def check_format(place, meta):
  """Refuses the meta of a step that another version of the format wrote.

  Raises:
    CheckpointError: use that version.
  """
  if meta["format"] != FORMAT:
    raise errors.CheckpointError(
        f"{place} has format {meta['format']}, this version reads {FORMAT}; "
        "use the version that wrote it")


def fault(path):
  """Why a folder is no finished step, or None."""
  meta, listed = (read_json(os.path.join(path, name)) for name in (META, LIST))
  if meta is None:
    return f"{META} is missing or cut"
  why = schema.fault(meta, {"format": int}, META) or (
      meta["format"] <= FORMAT and schema.fault(meta, SCHEMA, META)
      or listed and _fault_of_list(listed))
  if why:  # a later version's is for whoever restores it to refuse
    return why
  if listed is None:
    if meta.get("listed"):
      return f"{LIST} is missing or cut"
    header = read_json(os.path.join(path, HEADER)) or {}
    return None if header.get("commit_timestamp_nsecs") else (
        "it lacks Orbax's commit mark")
  bad = [name for name, size in listed.items()
         if _size(os.path.join(path, name)) != size]
  return (f"{len(bad)} of {len(listed)} files are missing or cut, as {bad[0]}"
          if bad else None)


def _meta(path):
  """A step's JSON object, {} if unreadable; of a later version's, whose meaning
  nobody here knows, the format and the config."""
  meta = read_json(os.path.join(path, META)) or {}
  if schema.fault(meta, {"format": int}) or meta["format"] <= FORMAT:
    return meta if schema.fault(meta, SCHEMA) is None else {}
  return {key: value for key, value in meta.items()
          if key == "format" or key == "config" and isinstance(value, dict)}


def _fault_of_list(listed):
  """What is wrong with a list of files and sizes, or None."""
  return schema.fault(listed, schema.Each(schema.count), LIST) or next(
      (f"{LIST} names {name!r:.80}" for name in listed
       if not schema.inside(name)), None)


def write_list(path):
  """Lists the files of a whole step inside it, with their sizes.

  Orbax's own at the top are left out: its commit writes them once more.
  """
  sizes = {}
  for folder, _, names in os.walk(path):
    if folder != path:
      for name in names:
        file = os.path.join(folder, name)
        sizes[os.path.relpath(file, path)] = os.path.getsize(file)
  write_json(os.path.join(path, LIST), dict(sorted(sizes.items())))


def bytes_of(path):
  """Bytes of all files below a folder."""
  return sum(_size(os.path.join(folder, name)) or 0
             for folder, _, names in os.walk(path) for name in names)


def is_healthy(meta):
  """Whether updates were finite when a step was saved."""
  return meta.get("healthy", True)  # earlier versions do not tell


def last_healthy(metas):
  """Newest step of {step: meta} saved while updates were finite, or None."""
  return max((s for s, meta in metas.items() if is_healthy(meta)),
             default=None)


def best(metas, rule):
  """Step of {step: meta} with the best score by "min:NAME" or "max:NAME".

  None without a rule or a score; the newest of equal ones.
  """
  scores = {s: meta["score"][rule] for s, meta in metas.items()
            if is_healthy(meta) and rule in meta.get("score", {})}
  sign = -1 if rule.startswith("min:") else 1
  return max(scores, key=lambda s: (sign * scores[s], s), default=None)


def superfluous(metas, *, keep_last, keep_every, keep_best):
  """Steps of {step: meta} that nothing keeps, oldest first.

  The newest `keep_last` stay (all, without one), multiples of `keep_every`,
  the best by the rule `keep_best`, and the newest healthy one.
  """
  if not keep_last:
    return []
  stay = set(sorted(metas)[-keep_last:])
  stay |= {s for s in metas if keep_every and s % keep_every == 0}
  stay |= {best(metas, keep_best or ""), last_healthy(metas)}
  return sorted(metas.keys() - stay)


def remove(folder, step):
  """Deletes a finished step, out of sight first: a part must not look whole."""
  trash = os.path.join(folder, TRASH)
  os.makedirs(trash, exist_ok=True)
  os.rename(os.path.join(folder, str(step)), os.path.join(trash, str(step)))
  empty_trash(folder)


def empty_trash(folder):
  """Deletes what a kill left of removed steps."""
  shutil.rmtree(os.path.join(folder, TRASH), ignore_errors=True)


def begin(folder, step):
  """Makes way for a save and notes that what it leaves is ours."""
  clear(folder)
  for name in os.listdir(folder):
    if name.split(".")[0] == str(step):  # not ours: kept under another name
      set_aside(folder, name)
  write_json(os.path.join(folder, JOURNAL),
             {"step": step, "folder": os.stat(folder).st_ino})


def set_aside(folder, name):
  """Renames a folder that is in the way to one that is no step."""
  free = f"{ASIDE}{name}"
  while os.path.exists(os.path.join(folder, free)):
    free += "+"
  os.rename(os.path.join(folder, name), os.path.join(folder, free))


def end(folder):
  """Notes that no save is under way."""
  path = os.path.join(folder, JOURNAL)
  if os.path.isfile(path) or os.path.islink(path):
    os.remove(path)


def clear(folder):
  """Deletes what a broken save of this very folder left, and nothing else.

  In a copy of the folder the note of the save names another one; then what
  lies there stays.
  """
  note = read_json(os.path.join(folder, JOURNAL))
  if schema.fault(note, {"step": schema.count, "folder": int}) is None and (
      note["folder"] == os.stat(folder).st_ino):
    for name in os.listdir(folder):
      if name.startswith(f"{note['step']}."):  # Orbax's temporary folder
        shutil.rmtree(os.path.join(folder, name))
  end(folder)


def read_json(path):
  """The JSON object in a file; None where there is none or half of one."""
  try:
    with open(path, "rb") as file:
      value = reading.parse(file.read())
  except (OSError, ValueError):
    return None
  return value if isinstance(value, dict) else None


def write_json(path, value):
  """Writes a JSON file that is whole or not there."""
  with open(path + ".part", "w", encoding="utf-8") as file:
    json.dump(value, file)
    file.flush()
    os.fsync(file.fileno())
  os.replace(path + ".part", path)


def _size(path):
  try:
    return os.path.getsize(path)
  except OSError:
    return None

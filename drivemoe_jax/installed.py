"""Which installed versions do not belong together, by their metadata alone.

Nothing of what is judged gets imported, so that a broken install can be judged
too. A distribution states what it wants of others; jax states in its extras
which accelerator libraries it fits; BROKEN and CLASHES hold what nobody states.
"""

import importlib
import importlib.metadata
import os
import re
import typing

# Seen to fail: (name, versions, other, versions, what happens, what helps).
BROKEN = (
    ("tensorflow-metadata", ">=1.21", "protobuf", "<6.31.1",
     "its generated code refuses an older protobuf",
     "'tensorflow-cpu>=2.20' 'protobuf>=6.31.1,<8'"),
    ("opencv-python-headless", "<4.10.0.84", "numpy", ">=2",
     "it was built for numpy 1", "'opencv-python-headless>=4.10.0.84'"),
)
# Two of one row write the same files: what is imported is a mixture.
CLASHES = (
    ("tensorflow", "tensorflow-cpu"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python",
     "opencv-contrib-python-headless"),
    ("pygame", "pygame-ce"),
    ("jax-cuda12-plugin", "jax-cuda13-plugin"),
)
# Libraries that an extra of jax pins, installed by hand or by another extra.
OF_JAX = ("libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin",
          "jax-rocm7-plugin")


class Found(typing.NamedTuple):
  """An installed distribution; version "" where its metadata is cut off."""
  version: str
  requires: tuple = ()    # as in its metadata, "jaxlib<=1,>=0.9; extra == ..."
  copies: int = 1         # folders of metadata: two are an unfinished update


class Wanted(typing.NamedTuple):
  """What this program asks for: requirement strings, also by extra."""
  python: str             # ">=3.11,<3.14"
  requires: tuple
  extras: dict


class Finding(typing.NamedTuple):
  """One thing wrong. level: "error" or "warning"; remedy: a command, or ""."""
  level: str
  what: str
  remedy: str


def parser():
  """The module that reads requirements: packaging, or the copy within pip.

  Raises:
    ImportError: neither is there.
  """
  try:
    return importlib.import_module("packaging.requirements")
  except ImportError:
    return importlib.import_module("pip._vendor.packaging.requirements")


def canonical(name):
  return re.sub(r"[-_.]+", "-", name).lower()


def found(path=None):
  """{canonical name: Found} of what Python would import from `path`."""
  seen = {}
  where = {} if path is None else {"path": path}
  for one in importlib.metadata.distributions(**where):
    try:
      name, version = one.metadata["Name"], one.metadata["Version"]
      requires = tuple(one.requires or ())
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
      name, version, requires = None, None, ()
    if not name:  # the file METADATA is missing: its folder has the name
      folder = os.path.basename(str(getattr(one, "_path", "")))
      name = folder.partition("-")[0]
      if not name:
        continue
    name = canonical(name)
    if name in seen:
      seen[name] = seen[name]._replace(copies=seen[name].copies + 1)
    else:
      seen[name] = Found(version or "", requires)
  return seen


def wanted(root):
  """Wanted of a checkout, or of the installed package where none is there."""
  project = os.path.join(root, "pyproject.toml")
  if not os.path.exists(project):
    return _wanted_of_metadata()
  with open(project, encoding="utf-8") as file:
    text = file.read()
  python = re.search(r'^requires-python = "(.*)"', text, re.M).group(1)
  with open(os.path.join(root, "requirements.txt"), encoding="utf-8") as file:
    lines = [line.strip() for line in file]
  try:
    import tomllib
  except ImportError:  # before Python 3.11, which is then the finding
    return Wanted(python, (), {})
  extras = tomllib.loads(text)["project"]["optional-dependencies"]
  return Wanted(
      python, tuple(x for x in lines if x and not x.startswith("#")),
      {name: tuple(needs) for name, needs in extras.items()})


def _wanted_of_metadata():
  own = importlib.metadata.distribution("drivemoe_jax")
  needs = [parser().Requirement(x) for x in own.requires or ()]
  extras = {}
  for name in own.metadata.get_all("Provides-Extra") or ():
    extras[name] = tuple(
        _bare(need) for need in needs if need.marker
        and need.marker.evaluate({"extra": name})
        and not need.marker.evaluate({"extra": ""}))
  plain = tuple(_bare(need) for need in needs
                if not need.marker or need.marker.evaluate({"extra": ""}))
  return Wanted(own.metadata["Requires-Python"], plain, extras)


def _bare(need):
  extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
  return f"{need.name}{extras}{need.specifier}"


def python_fits(python, version):
  """Whether a version such as (3, 12) lies in ">=3.11,<3.14"."""
  low, high = (
      tuple(map(int, re.search(sign + r"([\d.]+)", python)[1].split(".")))
      for sign in (">=", "<"))
  return low <= tuple(version[:2]) < high


def diagnose(wanted, found, pip="python -m pip"):
  """All that is wrong with an install, the likeliest cause first.

  Args:
    wanted: Wanted. found: {canonical name: Found}.
    pip: how this Python's pip is called, for the remedies.

  Returns:
    [Finding].
  """
  needs = [parser().Requirement(x) for x in wanted.requires]
  install = f"{pip} install"
  faults = _cut_off(found, install) + _clashes(found, pip)
  faults += _walk([("drivemoe_jax", need) for need in needs], found, install)
  faults += _accelerators(found, install)
  faults += _broken(found, install)
  for extra, lines in wanted.extras.items():
    faults += _extra(extra, map(parser().Requirement, lines), found, install)
  return list(dict.fromkeys(faults))


def extras(wanted, found):
  """{extra: names that it lacks}; one that lacks nothing is installed."""
  missing = {}
  for extra, lines in wanted.extras.items():
    names = []
    for line in lines:
      need = parser().Requirement(line)
      names += [] if canonical(need.name) in found else [need.name]
      if canonical(need.name) in found and need.extras:  # jax[tpu]
        names += [child.name for child in _children(
            found[canonical(need.name)], need.extras)
            if canonical(child.name) not in found]
    missing[extra] = sorted(set(names))
  return missing


def _cut_off(found, install):
  faults = []
  for name, one in sorted(found.items()):
    again = f"{install} --force-reinstall --no-deps {name}"
    if not one.version:
      faults.append(Finding(
          "error", f"{name} has no readable metadata: its installation was "
          "cut off", again))
    elif one.copies > 1:
      faults.append(Finding(
          "error", f"{name} has {one.copies} folders of metadata, one of them "
          f"says {one.version}: an update was cut off", again))
  return faults


def _clashes(found, pip):
  faults = []
  for row in CLASHES:
    here = [name for name in row if name in found]
    if len(here) > 1:
      words = " and ".join(f"{name} {found[name].version}" for name in here)
      faults.append(Finding(
          "error", f"{words} are both installed and overwrite each other's "
          "files", f"{pip} uninstall -y {' '.join(here)}, then install the "
          "one that is wanted"))
  return faults


def _walk(wants, found, install):
  """Findings about requirements and the requirements of what meets them.

  Args:
    wants: [(words for who wants it, Requirement)].
  """
  faults, done, missing = [], set(), set()
  while wants:
    who, need = wants.pop(0)
    name = canonical(need.name)
    if (who, name, frozenset(need.extras)) in done:
      continue
    done.add((who, name, frozenset(need.extras)))
    fault = _unmet(who, need, found, install)
    if fault and not (name not in found and name in missing):
      faults.append(fault)  # what is missing is told once, a bad pair always
    if name not in found:
      missing.add(name)
    elif not fault:
      one = found[name]
      wants += [(f"{name} {one.version}", child)
                for child in _children(one, need.extras)]
  return faults


def _children(one, extras=()):
  """Requirements of a distribution on this Python, with its extras."""
  for line in one.requires:
    need = parser().Requirement(line)
    if not need.marker or any(need.marker.evaluate({"extra": extra})
                              for extra in ("", *extras)):
      yield need


def _unmet(who, need, found, install, level="error"):
  """Finding about one requirement; None where it is met."""
  name = canonical(need.name)
  remedy = f"{install} '{need.name}{need.specifier}'"
  if name not in found:
    return Finding(level, f"{who} wants {need.name}{need.specifier}, which is "
                   "not installed", remedy)
  version = found[name].version
  if version and not need.specifier.contains(version, prereleases=True):
    return Finding(level, f"{who} wants {need.name}{need.specifier}, installed "
                   f"is {name} {version}", remedy)
  return None


def _accelerators(found, install):
  """What jax's own extras say about the libraries for TPUs and GPUs."""
  if "jax" not in found:
    return []
  jax, faults = found["jax"], []
  for line in jax.requires:
    need = parser().Requirement(line)
    name = canonical(need.name)
    extra = re.search(r"""extra == ["']([\w-]+)""", line)
    if name in OF_JAX and name in found and extra:
      faults.append(_unmet(f"jax {jax.version} with [{extra.group(1)}]", need,
                           found, install))
  one_of_each = {fault.remedy: fault for fault in reversed(faults) if fault}
  return list(one_of_each.values())[::-1]


def _broken(found, install):
  faults = []
  for name, versions, other, others, why, cure in BROKEN:
    is_in = lambda name, versions: (
        name in found and found[name].version
        and parser().Requirement(name + versions).specifier.contains(
            found[name].version, prereleases=True))
    if is_in(name, versions) and is_in(other, others):
      faults.append(Finding(
          "error", f"{name} {found[name].version} does not work with {other} "
          f"{found[other].version}: {why}",
          f"{install} {cure}"))
  return faults


def _extra(extra, needs, found, install):
  """Warnings about packages of an extra that are there in another version."""
  faults = [_unmet(f"the extra [{extra}]", need, found, install, "warning")
            for need in needs if canonical(need.name) in found]
  return [fault for fault in faults if fault]

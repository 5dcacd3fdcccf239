"""Reads the text of a compiled TPU program: cycles, loops, collectives.

XLA's own cost analysis counts the body of a loop once. This reader walks from
the entry computation down and weighs every instruction with the trip counts of
the loops around it. It needs nothing but the text.
"""

import dataclasses
import math
import re

BYTES = {"pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "bf16": 2,
         "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8,
         "s64": 8, "u64": 8}
COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all",
               "ragged-all-to-all", "collective-permute")
COPIES = {"copy", "copy-start", "slice", "slice-start", "dynamic-slice",
          "transpose", "convert"}
# A fusion of nothing else moves data without computing anything.
IDLE = COPIES | {"parameter", "constant", "bitcast", "reshape", "tuple",
                 "get-tuple-element"}
ON_CHIP = "S(1)"  # memory space of a layout: on its way to be used

HEADER = re.compile(r"(ENTRY\s+)?%?([\w.\-]+)\s*\(")
INSTRUCTION = re.compile(
    r"\s*(ROOT\s+)?%?([\w.\-]+)\s*=\s*(\(.*?\)|\S+)\s+([\w\-]+)\(([^)]*)")
ARRAY = re.compile(r"\b([a-z]+\d*(?:e\dm\d(?:fn)?)?)\[([\d,]*)\](\{[^}]*\})?")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line: name, result type, opcode, operand names and the whole text."""

  name: str
  type: str
  op: str
  operands: tuple[str, ...]
  text: str
  root: bool

  def attribute(self, pattern):
    """First group of a regular expression in the text, or None."""
    found = re.search(pattern, self.text)
    return found and found.group(1)

  @property
  def arrays(self):
    """[(dtype, shape, layout)] of the result."""
    return [(dtype, tuple(int(n) for n in sizes.split(",") if n), layout)
            for dtype, sizes, layout in ARRAY.findall(self.type)
            if dtype in BYTES]


@dataclasses.dataclass(frozen=True)
class Moved:
  """An instruction that moves data: a collective or a copy.

  Attributes:
    kind: opcode without -start. arrays: ((dtype, shape), ...) of the result.
    bytes: of one execution. times: executions per step.
    dimension: that is gathered or cut, or None.
    group: ids that take part, for the first group; () where not stated.
    source: the op_name of the metadata.
  """

  kind: str
  arrays: tuple
  bytes: int
  times: int
  dimension: int | None
  group: tuple[int, ...]
  source: str

  def __str__(self):
    arrays = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in self.arrays)
    return f"{self.times} x {self.kind} {arrays} {self.source}"


@dataclasses.dataclass
class Program:
  """What the text says about one execution.

  Attributes:
    cycles: estimated by the compiler, trip counts included; no communication.
    cycles_by_op: the same by opcode.
    loops: {name: trip count, None where the text does not tell}.
    collectives, copies: lists of Moved. Collectives stay within a slice;
    across: what slices send each other, by the name of the collective.
    custom_calls: {target: executions}.
  """

  cycles: int = 0
  cycles_by_op: dict = dataclasses.field(default_factory=dict)
  loops: dict = dataclasses.field(default_factory=dict)
  collectives: list = dataclasses.field(default_factory=list)
  across: list = dataclasses.field(default_factory=list)
  copies: list = dataclasses.field(default_factory=list)
  custom_calls: dict = dataclasses.field(default_factory=dict)

  @property
  def unresolved(self):
    """Loops whose trip count is unknown: no total can be trusted."""
    return [name for name, trips in self.loops.items() if trips is None]


def size(dtype, shape):
  """Bytes of an array."""
  return BYTES[dtype] * math.prod(shape)


def by_kind(moves):
  """{kind: {"count", "bytes"}} per step of a list of Moved."""
  total = {}
  for moved in moves:
    entry = total.setdefault(moved.kind, {"count": 0, "bytes": 0})
    entry["count"] += moved.times
    entry["bytes"] += moved.times * moved.bytes
  return total


def read(text):
  """Text of a compiled module -> Program."""
  return _Reader(*computations(text)).program


def computations(text):
  """({name: [Instruction]}, name of the entry)."""
  found, current, entry = {}, None, None
  for line in text.splitlines():
    if line and not line[0].isspace():
      header = HEADER.match(line)
      if header and line.rstrip().endswith("{"):
        current = found.setdefault(header.group(2), [])
        entry = header.group(2) if header.group(1) else entry
    elif current is not None:
      match = INSTRUCTION.match(line)
      if match:
        root, name, kind, op, operands = match.groups()
        current.append(Instruction(
            name, kind, op, tuple(re.findall(r"%([\w.\-]+)", operands)), line,
            bool(root)))
  return found, entry


class _Reader:
  """Walks the computations; one pass, see Program."""

  def __init__(self, found, entry):
    self._found, self._seen = found, set()
    # Collectives that a computation starts and others bring to an end.
    self._started = {
        _channel(i) for part in found.values() if _starts(part)
        for i in part if i.op in COLLECTIVES}
    self.program = Program()
    self._walk(entry, 1, fused=False, body=entry)

  def _walk(self, name, times, *, fused, body):
    """Adds a computation that runs `times` times inside the loop `body`;
    `fused` is true for the inside of a fusion."""
    p = self.program
    if fused:
      fused = "start" if _starts(self._found.get(name, ())) else "beside"
    for i in self._found.get(name, ()):
      kind = i.op.removesuffix("-start")
      if kind in COLLECTIVES:
        self._collective(i, kind, times, body, fused)
      elif i.op == "send" and "_xla_megascale_transfer_type" in i.text:
        name = i.attribute(r'_xla_megascale_transfer_type="(\w+)"')
        p.across.append(_moved(i, name.lower().replace("_", "-"), times))
      elif not fused and self._copies(i):
        p.copies.append(_moved(i, kind, times))
      elif i.op == "custom-call":
        target = i.attribute(r'custom_call_target="([^"]+)"')
        p.custom_calls[target] = p.custom_calls.get(target, 0) + times
      cycles = i.attribute(r'"estimated_cycles":"?(\d+)')
      if cycles and not fused:  # a fusion's own figure covers its parts
        p.cycles += times * int(cycles)
        p.cycles_by_op[i.op] = (p.cycles_by_op.get(i.op, 0)
                                + times * int(cycles))
      if i.op == "while":
        trips = p.loops[i.name] = self._trips(i)
        inner = i.attribute(r"body=%?([\w.\-]+)")
        self._walk(inner, times * (trips or 1), fused=fused, body=inner)
      elif i.op in ("fusion", "call", "async-start", "conditional"):
        for called in re.findall(
            r"(?:to_apply|calls|branch_computations=\{)=?%?([\w.\-]+)",
            i.text)[:1]:
          self._walk(called, times, fused=fused or i.op == "fusion", body=body)

  def _copies(self, i):
    """Whether an instruction only moves data from HBM to HBM."""
    if ON_CHIP in i.type:
      return False
    called = i.op == "fusion" and self._found.get(
        i.attribute(r"calls=%?([\w.\-]+)"), ())
    return i.op in COPIES or bool(called) and all(
        inner.op in IDLE for inner in called)

  def _collective(self, i, kind, times, body, fused):
    # An asynchronous collective shows up, with the same channel, in the fusion
    # that starts it, in those that run beside it, even inside inner loops, and
    # where it ends: the start alone counts. A channel alone says nothing, for
    # different collectives may share one.
    moved = _moved(i, kind, times)
    if fused == "beside":
      key = kind, _channel(i), body, moved.bytes
      if key in self._seen or _channel(i) in self._started:
        return
      self._seen.add(key)
    self.program.collectives.append(moved)

  def _trips(self, loop):
    """Trip count of a while instruction; None if the text does not tell.

    XLA notes it for loops that it has counted. The loops that it makes of
    collective matrix products compare a counter from 0 with a constant.
    """
    known = loop.attribute(r'"known_trip_count":\{"n":"(\d+)"')
    if known:
      return int(known)
    condition = loop.attribute(r"condition=%?([\w.\-]+)")
    bounds = {int(n) for i in self._found.get(condition, ())
              for n in re.findall(r"= [su]32\[\]\S* constant\((\d+)\)", i.text)}
    return bounds.pop() if len(bounds) == 1 else None


def _starts(computation):
  """Whether a computation begins an asynchronous collective."""
  return any("AsyncCollectiveStart" in i.text for i in computation
             if i.op == "custom-call")


def _channel(i):
  """What tells one collective from another."""
  return i.attribute(r"channel_id=(\d+)") or i.name


def _moved(i, kind, times):
  """Instruction -> Moved. The tuple of a -start holds what goes in as well,
  so its largest array counts; that of an all-reduce-start does not."""
  arrays = tuple((dtype, shape) for dtype, shape, _ in i.arrays)
  if i.op == "send" or i.op.endswith("-start") and kind != "all-reduce":
    arrays = (max(arrays, key=lambda a: size(*a)),)
  group = _first_group(i.text)
  total = sum(size(*a) for a in arrays)
  if kind == "reduce-scatter":  # what goes in, not the shard that comes out
    total *= max(len(group), 1)
  dimension = i.attribute(r"dimensions=\{(\d+)\}")
  return Moved(kind, arrays, total, times,
               None if dimension is None else int(dimension), group,
               i.attribute(r'op_name="([^"]*)"') or "")


def _first_group(text):
  """Ids of the first replica group in any of XLA's three notations."""
  found = re.search(r"replica_groups=\{\{([\d,]*)\}", text)
  if found:
    return tuple(int(n) for n in found.group(1).split(",") if n)
  found = re.search(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}", text)
  if found:  # axes of a row-major numbering, and those that a group spans
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", found.group(1)))
    spanned = re.findall(r"'([^']+)'", found.group(2))
    ids, stride = [0], 1
    for axis, n in reversed(sizes.items()):
      if axis in spanned:
        ids = [k * stride + i for k in range(int(n)) for i in ids]
      stride *= int(n)
    return tuple(sorted(ids))
  found = re.search(
      r"replica_groups=\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
  if not found:
    return ()
  dims = [int(n) for n in found.group(2).split(",")]
  order = ([int(n) for n in found.group(3).split(",")] if found.group(3)
           else list(range(len(dims))))
  return tuple(_iota(dims, order, k) for k in range(int(found.group(1))))


def _iota(dims, order, k):
  """The k-th element of arange(prod(dims)).reshape(dims).transpose(order)."""
  at = [0] * len(dims)
  for axis in reversed(order):
    at[axis], k = k % dims[axis], k // dims[axis]
  place = 0
  for n, i in zip(dims, at):
    place = place * n + i
  return place

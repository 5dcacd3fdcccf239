"""Takes apart a pickle of plain data, as a list of instructions, not a program.

Python's own unpickler can be told which names to know, yet a few bytes still
make it reserve gigabytes or compare for ever. Here an instruction that plain
data does not need is refused, keys are texts or numbers, and what is held
beside the data is no larger than the pickle.
"""

import pickletools

PUSHED = {  # instructions whose argument is the value
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT",
    "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = {"PROTO", "FRAME"}


class Name:
  """A name in the pickle, by which something known is meant.

  Attributes:
    call: function of the arguments, or None for what is only mentioned.
  """

  def __init__(self, call=None, value=None):
    self.call, self.value = call, value


def load(data, known, storage):
  """The object that a pickle describes.

  Args:
    data: bytes. known: {"module name": Name}.
    storage: function of a persistent id, a tuple.

  Raises:
    ValueError: an instruction or a name that plain data does not need.
    IndexError, TypeError, KeyError: instructions that do not fit together.
  """
  return _Machine(known, storage).run(data)


class _Machine:
  """The stack, with marks in it, and what was noted to be used again."""

  def __init__(self, known, storage):
    self._known, self._storage = known, storage
    self._stack, self._below, self._notes = [], [], {}

  def run(self, data):
    for instruction, argument, _ in pickletools.genops(data):
      name = instruction.name
      if name == "STOP":
        return self._stack.pop()
      if name in PUSHED:
        self._stack.append(argument)
      elif name in CONSTANTS:
        self._stack.append(CONSTANTS[name])
      elif name in EMPTY:
        self._stack.append(EMPTY[name]())
      elif name in TUPLES:
        self._stack.append(tuple(self._take(TUPLES[name])))
      elif name not in IGNORED:
        method = getattr(self, f"_{name.lower()}", None)
        if method is None:
          raise ValueError(f"plain data needs no {name}")
        method(argument)
    raise ValueError("it does not end")

  def _take(self, count):
    """The topmost values, off the stack."""
    if len(self._stack) < count:
      raise IndexError("the stack is empty")
    taken = self._stack[len(self._stack) - count:]
    del self._stack[len(self._stack) - count:]
    return taken

  def _mark(self, _):
    self._below.append(self._stack)
    self._stack = []

  def _above(self):
    """What came since the last mark, off the stack."""
    taken, self._stack = self._stack, self._below.pop()
    return taken

  def _tuple(self, _):
    taken = tuple(self._above())
    self._stack.append(taken)

  def _list(self, _):
    taken = self._above()
    self._stack.append(taken)

  def _dict(self, _):
    taken = self._above()
    self._stack.append({})
    self._set(taken)

  def _append(self, _):
    self._extend(self._take(1))

  def _appends(self, _):
    self._extend(self._above())

  def _extend(self, values):
    if type(self._stack[-1]) is not list:
      raise TypeError("something is appended to no list")
    self._stack[-1].extend(values)

  def _setitem(self, _):
    self._set(self._take(2))

  def _setitems(self, _):
    self._set(self._above())

  def _set(self, values):
    if type(self._stack[-1]) is not dict or len(values) % 2:
      raise TypeError("something is set in no dictionary")
    for key, value in zip(values[::2], values[1::2]):
      if type(key) not in (str, int):  # others may take for ever to compare
        raise TypeError(f"a key is a {type(key).__name__}")
      self._stack[-1][key] = value

  def _pop(self, _):
    self._take(1)

  def _pop_mark(self, _):
    self._above()

  def _dup(self, _):
    self._stack.append(self._stack[-1])

  def _put(self, number):
    self._notes[number] = self._stack[-1]

  _binput = _long_binput = _put

  def _memoize(self, _):
    self._notes[len(self._notes)] = self._stack[-1]

  def _get(self, number):
    self._stack.append(self._notes[number])

  _binget = _long_binget = _get

  def _global(self, name):
    if name not in self._known:
      raise ValueError(f"it names {name.replace(' ', '.', 1)}, which no file "
                       "of plain tensors needs")
    found = self._known[name]
    self._stack.append(found if found.call else found.value)

  def _stack_global(self, _):
    module, name = self._take(2)
    if type(module) is not str or type(name) is not str:
      raise TypeError("a name is no text")
    self._global(f"{module} {name}")

  def _reduce(self, _):
    known, arguments = self._take(2)
    if not isinstance(known, Name) or type(arguments) is not tuple:
      raise TypeError("something is called that is no known name")
    self._stack.append(known.call(*arguments))

  def _build(self, _):
    self._take(1)  # attributes, such as a state dict's versions
    if type(self._stack[-1]) is not dict:
      raise ValueError("state for a name")

  def _binpersid(self, _):
    (name,) = self._take(1)
    if type(name) is not tuple:
      raise TypeError("a persistent id is no tuple")
    self._stack.append(self._storage(*name))

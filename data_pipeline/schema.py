"""What a parsed JSON value must look like, and where one differs.

A schema is a type, a function that says yes or no, a list of one schema for
every item, a dict of the keys that must be there, or Each(schema) for the
values of any keys. Types are exact: true is no int, and a number is finite.
"""

import os
import sys


class Each:
  """An object of any keys whose values all follow one schema."""

  def __init__(self, schema):
    self.schema = schema


class Maybe:
  """A key that may be absent or null."""

  def __init__(self, schema):
    self.schema = schema


def number(value):
  """A finite number."""
  return type(value) in (int, float) and abs(value) <= sys.float_info.max


def count(value):
  """A whole number from 0 on."""
  return type(value) is int and 0 <= value < 2**53


def name(value):
  """A name of one file or folder: no way out of where it is looked for."""
  return (type(value) is str and value.isprintable()
          and value not in ("", ".", "..")
          and not {"/", "\\"} & set(value) and len(value) < 250)


def inside(value):
  """A relative path that stays below where it is looked for."""
  return (type(value) is str and value != "" and not os.path.isabs(value)
          and all(map(name, value.split("/"))))


def fault(value, schema, at="it"):
  """Where and how a value differs from its schema, in words; None: nowhere."""
  if isinstance(schema, (dict, Each)):
    return _fault_in_object(value, schema, at)
  if isinstance(schema, list):
    if not isinstance(value, list):
      return f"{at} is {_short(value)}, want a list"
    parts = ((item, schema[0], f"{at}[{i}]") for i, item in enumerate(value))
    return next(filter(None, (fault(*part) for part in parts)), None)
  right = type(value) is schema if isinstance(schema, type) else schema(value)
  if right:
    return None
  wanted = schema.__name__
  if not isinstance(schema, type) and schema.__doc__:
    wanted = schema.__doc__.splitlines()[0].rstrip(".")
    wanted = wanted[0].lower() + wanted[1:]
  return f"{at} is {_short(value)}, want {wanted}"


def _fault_in_object(value, schema, at):
  if not isinstance(value, dict):
    return f"{at} is {_short(value)}, want an object"
  if isinstance(schema, Each):
    parts = ((item, schema.schema, f"{at}.{key}")
             for key, item in value.items())
    return next(filter(None, (fault(*part) for part in parts)), None)
  for key, wanted in schema.items():
    if isinstance(wanted, Maybe):
      if value.get(key) is None:
        continue
      wanted = wanted.schema
    if key not in value:
      return f"{at} has no {key}"
    found = fault(value[key], wanted, f"{at}.{key}")
    if found:
      return found
  return None


def _short(value):
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "..."

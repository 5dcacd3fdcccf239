"""Raw Bench2Drive folders as a records.Source, for data_pipeline.prepare."""

import dataclasses
import hashlib
import os

from data_pipeline import bench2drive, errors, frame_numbers, images


@dataclasses.dataclass(frozen=True)
class RawRoutes:
  """The routes of a folder; see bench2drive.read_route for the fields."""

  root: str
  labels_root: str | None = None
  nan_heading: str = "box"

  def facts(self):
    return {"nan_heading": self.nan_heading}

  def names(self):
    return bench2drive.list_routes(self.root)

  def length(self, name):
    return sum(1 for _ in self._annotations(name))

  def version(self, name):
    """Hash of the labels and of the annotations' names and sizes."""
    digest = hashlib.sha256(self.nan_heading.encode())
    for entry in sorted(self._annotations(name), key=lambda e: e.name):
      digest.update(f"{entry.name} {entry.stat().st_size}\n".encode())
    if self.labels_root is not None:
      for folder, _ in bench2drive.LABEL_FOLDERS.values():
        path = os.path.join(self.labels_root, folder, f"{name}.json")
        if os.path.isfile(path):  # else read() will say so
          with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]

  def read(self, name):
    return bench2drive.read_route(
        self.root, name, self.labels_root, nan_heading=self.nan_heading)

  def pixels(self, name, camera, frame, size):
    return images.load(os.path.join(
        self.root, name, "camera", camera, f"{frame:05d}.jpg"), size)

  def _annotations(self, name):
    folder = os.path.join(self.root, name, "anno")
    try:
      with os.scandir(folder) as entries:
        yield from (entry for entry in entries
                    if entry.name.endswith(".json.gz")
                    and not entry.name.startswith("."))
    except OSError as error:
      raise errors.DataError(
          f"{folder}: {error.strerror}; {frame_numbers.REMEDY}") from None

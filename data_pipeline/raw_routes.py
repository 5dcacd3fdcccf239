"""Raw Bench2Drive folders as a records.Source, for data_pipeline.prepare."""

import dataclasses
import hashlib
import os

from data_pipeline import bench2drive, frame_numbers, images


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
    return len(frame_numbers.listed(self._anno(name)))

  def version(self, name):
    """Hash of the labels and of the annotations' names and sizes."""
    digest = hashlib.sha256(self.nan_heading.encode())
    for t in sorted(frame_numbers.listed(self._anno(name))):
      file = f"{t:05d}.{frame_numbers.ANNO}"
      size = os.path.getsize(os.path.join(self._anno(name), file))
      digest.update(f"{file} {size}\n".encode())
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

  def _anno(self, name):
    return os.path.join(self.root, name, "anno")

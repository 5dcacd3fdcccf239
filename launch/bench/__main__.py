"""`python -m launch.bench`."""

import sys

from launch import bench

if __name__ == "__main__":
  sys.exit(bench.main())

"""`python -m launch.ablate`."""

import sys

from launch import ablate

if __name__ == "__main__":
  sys.exit(ablate.main())

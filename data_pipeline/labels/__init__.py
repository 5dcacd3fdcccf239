"""Camera and skill labels of raw routes, from their annotations alone.

  annotations  reads what the rules need of a route's frames, leniently
  signals      per-frame facts: commands, junctions, lane changes
  bypass       driving around an obstacle: out, alongside, back
  constants    every number, and which scenario type asks for which rule
  rules        the two ordered tables of rules, and who decides a frame
  opendrive    optional: junctions and lanes from a map
  files        label files and their side files, written whole or not at all
  generate     one route, or a folder of them
  compare      agreement of two label folders
  describe     the rules and the numbers as the tables of docs/labels.md
"""
